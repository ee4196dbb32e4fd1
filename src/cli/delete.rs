//! `weir delete`: an app and all that runs of it, a shard, a host or a zone.

use std::time::Instant;

use clap::{Args, ValueEnum};
use reqwest::Method;

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say, took},
    progress::{ROUND, WaitArgs},
    steps::Steps,
};

/// Delete an app, a shard, a host or a zone.
///
/// An app's requests in flight end, then its containers go. Named volumes are kept. A shard can be
/// deleted when no app names it any more; nothing happens to its members. A
/// host can be deleted when it has been drained (`weir host drain`), or has been lost. A zone goes with its records.
#[derive(Debug, Args)]
#[command(
    allow_missing_positional = true,
    after_help = "\
Examples:
  weir delete shop
  weir delete shard east
  weir delete host b
  weir delete zone example.com
  weir delete shop --no-wait

Exit codes: 0 gone, 2 the server refuses or is not there, 4 the time is up and it goes on."
)]
pub(crate) struct Delete {
    /// What to delete [default: app]
    #[arg(value_enum)]
    kind: Option<Kind>,
    /// Its name
    name: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    App,
    Shard,
    Host,
    Zone,
}

impl Delete {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.kind {
            None | Some(Kind::App) => self.delete_app(&client).await,
            Some(Kind::Shard) => self.delete_object(&client, "shards", "Shard").await,
            Some(Kind::Host) => self.delete_object(&client, "hosts", "Host").await,
            Some(Kind::Zone) => self.delete_object(&client, "zones", "Zone").await,
        }
    }

    async fn delete_object(
        &self,
        client: &Client,
        path: &str,
        kind: &str,
    ) -> anyhow::Result<Outcome> {
        let name = &self.name;
        client.send(client.request(Method::DELETE, &[path, name], &[])).await?;
        say(format_args!("{kind}/{name}  deleted"))?;
        Ok(Outcome::Done)
    }

    async fn delete_app(&self, client: &Client) -> anyhow::Result<Outcome> {
        let app = &self.name;
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
