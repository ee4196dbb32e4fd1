//! `weir shard deploy`: one image for every app on a shard's hosts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use clap::Args;
use reqwest::Method;
use weir_control::api::wire::{OperationResource, ShardDeployRequest, UpdatedAppResource};

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say, took},
    progress::{ROUND, WaitArgs},
};

/// It stops at the first failure, or when more have failed than may, and says so. Those that are
/// updated by then stay so. Asked for again, it goes on with those that are not; a restart of the
/// server does not stop it, `weir operation cancel` does.
#[derive(Debug, Args)]
pub(super) struct RollingUpdate {
    /// The name of the shard
    name: String,
    /// The image to run from now on
    #[arg(long)]
    image: String,
    /// So many apps at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    parallel: u32,
    /// The part of the apps that may fail
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    max_failed: u8,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl RollingUpdate {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let request = ShardDeployRequest {
            image: self.image,
            parallel: self.parallel,
            max_failed_percent: self.max_failed,
        };
        let path = ["shards", &self.name, "actions", "deploy"];
        let begun = client.request(Method::POST, &path, &[]).json(&request);
        let operation: OperationResource = client.json(begun).await?;
        let (id, count) = (&operation.id, operation.apps.len());
        say(format_args!(
            "Shard/{}  image {} for {count} apps, as {id}",
            self.name, request.image
        ))?;
        match self.wait.limit() {
            Some(limit) => follow(&client, operation, limit).await,
            None => {
                say(format_args!("    see it by: weir operation show {id}"))?;
                Ok(Outcome::Done)
            }
        }
    }
}

/// Tells what becomes of each app until the operation is settled.
async fn follow(
    client: &Client,
    mut operation: OperationResource,
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let since = Instant::now();
    let mut told = BTreeMap::new();
    loop {
        for app in &operation.apps {
            if app.state != "waiting" && told.get(&app.app) != Some(app) {
                say(line(app))?;
                told.insert(app.app.clone(), app.clone());
            }
        }
        let OperationResource { id, name, state, message, .. } = &operation;
        let time = took(since.elapsed());
        match state.as_str() {
            "running" if since.elapsed() < limit => {}
            "running" => {
                say(format_args!("Shard/{name}  still going on after {time}: {message}"))?;
                say(format_args!("    the server goes on; see it by: weir operation show {id}"))?;
                return Ok(Outcome::TimedOut);
            }
            "succeeded" => {
                say(format_args!("Shard/{name}  updated in {time}: {message}"))?;
                return Ok(Outcome::Done);
            }
            state => {
                say(format_args!("Shard/{name}  {state} after {time}: {message}"))?;
                say("    run it again to go on with those that are not updated")?;
                return Ok(Outcome::Failed);
            }
        }
        let left = limit.saturating_sub(since.elapsed());
        operation = client.settled(&["operations", id], left.min(ROUND)).await?;
    }
}

/// How far an app is.
pub(super) fn line(updated: &UpdatedAppResource) -> String {
    let UpdatedAppResource { app, deployment, state, message } = updated;
    let number = deployment.map(|number| format!("deployment {number} ")).unwrap_or_default();
    let why = if message.is_empty() { String::new() } else { format!(": {message}") };
    format!("  App/{app}  {number}{state}{why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_told_with_its_deployment_and_the_reason() {
        let updated = |deployment, state: &str, message: &str| {
            line(&UpdatedAppResource {
                app: "shop".to_owned(),
                deployment,
                state: state.to_owned(),
                message: message.to_owned(),
            })
        };
        assert_eq!(updated(Some(3), "done", ""), "  App/shop  deployment 3 done");
        let failed = updated(Some(3), "failed", "exited with code 4");
        assert_eq!(failed, "  App/shop  deployment 3 failed: exited with code 4");
        assert_eq!(
            updated(None, "skipped", "it was deleted"),
            "  App/shop  skipped: it was deleted"
        );
    }
}
