//! `weir deploy`: another image, or the same one anew.

use std::time::{Duration, Instant};

use clap::Args;
use tokio::time::timeout;
use weir_control::api::wire::DeployRequest;

use super::{
    change::source,
    client::Connection,
    deployment_log,
    outcome::{Outcome, say},
    progress::{WaitArgs, follow, report, report_accepted, report_late},
};

/// Deploy another image of an app, or the same one anew.
///
/// The new instances take requests once they are ready, and the old ones go after that. If the new
/// ones fail, the old ones keep serving; it prints why, the exit code, the last log lines, and what
/// serves meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir deploy shop --image registry.example.com/shop:1.2
  weir deploy shop
  weir deploy shop --image registry.example.com/shop:1.3 --follow

Exit codes: 0 ready, 2 the server refuses or is not there, 3 the deployment failed,
4 the time is up and it goes on.")]
pub(crate) struct Deploy {
    /// The name of the app
    app: String,
    /// The image to run from now on [default: the one it has]
    #[arg(long)]
    image: Option<String>,
    /// Print each step, and what the new instances write until they are ready
    #[arg(short, long, conflicts_with = "no_wait")]
    follow: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Deploy {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let since = Instant::now();
        let request = DeployRequest { image: self.image };
        let app = client.act(&self.app, "deploy", &request, Duration::ZERO).await?;
        let number = app.status.deployment.unwrap_or_default();
        say(format_args!("App/{}  deployment {number} of {}", app.name, source(&app.spec)))?;
        match self.wait.limit() {
            Some(limit) if self.follow => {
                let log = deployment_log::print(&client, &app.name, number);
                let Ok(ended) = timeout(limit, log).await else {
                    return report_late(&client.app(&app.name).await?, since.elapsed());
                };
                let app = client.app(&app.name).await?;
                Ok(report(&client, &app, since.elapsed()).await?.max(ended?))
            }
            Some(limit) => follow(&client, &app, since, limit).await,
            None => report_accepted(&app),
        }
    }
}
