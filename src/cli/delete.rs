//! `weir delete`: an app and all that runs of it.

use std::time::Instant;

use clap::Args;
use reqwest::Method;

use super::{
    client::Connection,
    outcome::{Outcome, say, took},
    progress::{ROUND, WaitArgs},
    steps::Steps,
};

/// Delete an app.
///
/// Its requests in flight end, then its containers go. Named volumes are kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir delete shop
  weir delete shop --no-wait

Exit codes: 0 gone, 2 the server refuses or is not there, 4 the time is up and it goes on.")]
pub(crate) struct Delete {
    /// The name of the app
    app: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Delete {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let app = &self.app;
        let client = self.connection.open()?;
        let since = Instant::now();
        client.send(client.request(Method::DELETE, &["apps", app], &[])).await?;
        let Some(limit) = self.wait.limit() else {
            say(format_args!("App/{app}  accepted; see it by: weir get instances {app}"))?;
            return Ok(Outcome::Done);
        };
        // No deployment is the newest any more: of each instance only its end is worth telling.
        let mut steps = Steps::new(u64::MAX);
        loop {
            let left = client.instances_of(app).await?;
            for step in steps.look(&left) {
                say(format_args!("  {step}"))?;
            }
            let time = took(since.elapsed());
            if left.is_empty() {
                say(format_args!("App/{app}  deleted in {time}"))?;
                return Ok(Outcome::Done);
            }
            if since.elapsed() >= limit {
                let names: Vec<_> = left.iter().map(|instance| &*instance.name).collect();
                let names = names.join(", ");
                say(format_args!("App/{app}  deleted, but after {time} there still is {names}"))?;
                return Ok(Outcome::TimedOut);
            }
            tokio::time::sleep(ROUND).await;
        }
    }
}
