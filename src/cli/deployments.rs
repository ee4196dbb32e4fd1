//! `weir deployments`, and what is done about them beside making new ones.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use weir_control::api::wire::{
    AppResource, DeploymentResource, List, PromoteRequest, RollbackRequest,
};

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say},
    output::Output,
    progress::{WaitArgs, follow, report_accepted},
    table::Table,
};

/// Show the deployments of an app, the newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir deployments shop
  weir deployments shop -o json")]
pub(crate) struct Deployments {
    /// The name of the app
    app: String,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Deployments {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let list: List<DeploymentResource> =
            client.get(&["apps", &self.app, "deployments"]).await?;
        self.output.list(list, format_args!("no deployments of {}", self.app), table)
    }
}

fn table(items: Vec<DeploymentResource>) -> Table<6> {
    let mut table = Table::new(["NUMBER", "STATE", "CAUSE", "IMAGE", "SINCE", "MESSAGE"]);
    for deployment in items {
        let kept = deployment.kept_until.map(|until| format!("kept until {until}"));
        let why = deployment.ending.map(|ending| ending.message);
        let message: Vec<_> = why.into_iter().chain(kept).collect();
        table.row([
            deployment.number.to_string(),
            deployment.state.as_str().to_owned(),
            deployment.cause.as_str().to_owned(),
            deployment.image,
            deployment.since,
            message.join("; "),
        ]);
    }
    table
}

/// Bring a former deployment back.
///
/// One whose instances are still kept is back within a second, and needs no registry. The spec stays
/// as it is: applying it again unchanged does not undo the rollback, `weir redeploy` does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir rollback shop
  weir rollback shop --to 11

Exit codes: 0 back, 2 the server refuses or is not there, 3 it failed, 4 the time is up.")]
pub(crate) struct Rollback {
    /// The name of the app
    app: String,
    /// The number of the deployment [default: the one that was live before]
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Rollback {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let since = Instant::now();
        let request = RollbackRequest { to: self.to };
        let app = client.act(&self.app, "rollback", &request, Duration::ZERO).await?;
        tell(&client, &app, since, self.wait).await
    }
}

/// Call off the deployment that is on its way.
///
/// What served before serves on. A first deployment that is called off leaves nothing that serves.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir cancel shop

Exit codes: 0 called off, 2 the server refuses or is not there.")]
pub(crate) struct Cancel {
    /// The name of the app
    app: String,
    #[command(flatten)]
    connection: Connection,
}

impl Cancel {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let app = client.act(&self.app, "cancel", &json!({}), Duration::ZERO).await?;
        let serves = match app.status.live_deployment {
            Some(live) => format!("deployment {live} serves on"),
            None => "nothing serves".to_owned(),
        };
        say(format_args!("App/{}  called off; {serves}", app.name))?;
        Ok(Outcome::Done)
    }
}

/// Deploy the spec as it is, anew.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir redeploy shop

Exit codes: 0 ready, 2 the server refuses or is not there, 3 the deployment failed,
4 the time is up and it goes on.")]
pub(crate) struct Redeploy {
    /// The name of the app
    app: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Redeploy {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let since = Instant::now();
        let app = client.act(&self.app, "redeploy", &json!({}), Duration::ZERO).await?;
        tell(&client, &app, since, self.wait).await
    }
}

/// Deploy exactly the image that another app runs.
///
/// By its digest, so that what was tried there is what runs here, whatever its tag says by now.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir promote shop --from shop-staging

Exit codes: 0 ready, 2 the server refuses or is not there, 3 the deployment failed,
4 the time is up and it goes on.")]
pub(crate) struct Promote {
    /// The name of the app
    app: String,
    /// The name of the app whose image it is
    #[arg(long, value_name = "APP")]
    from: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Promote {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let since = Instant::now();
        let request = PromoteRequest { from: self.from };
        let app = client.act(&self.app, "promote", &request, Duration::ZERO).await?;
        tell(&client, &app, since, self.wait).await
    }
}

/// Says which deployment is on its way, and follows it.
async fn tell(
    client: &Client,
    app: &AppResource,
    since: Instant,
    wait: WaitArgs,
) -> anyhow::Result<Outcome> {
    let number = app.status.deployment.unwrap_or_default();
    let image = app.status.image.as_deref().unwrap_or_default();
    say(format_args!("App/{}  deployment {number} of image {image}", app.name))?;
    match wait.limit() {
        Some(limit) => follow(client, app, since, limit).await,
        None => report_accepted(app),
    }
}
