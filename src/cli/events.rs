//! `weir events`: what has happened.

use std::time::Duration;

use clap::Args;
use weir_control::api::wire::{EventRecord, List};

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say, say_aside},
    output::Output,
};

/// Show what has happened to an app, or to everything.
///
/// The last of it, the oldest first: changes, deployments, and what became of each instance and
/// route. Weir keeps the last 1000 events of each object, for 30 days.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir events shop
  weir events shop -f
  weir events --limit 500 -o json")]
pub(crate) struct Events {
    /// The name of the app [default: all objects]
    app: Option<String>,
    /// Go on with what happens, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// How to show them; as JSON, one object per line
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Between two looks while following.
const ROUND: Duration = Duration::from_millis(500);

impl Events {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let mut events = match &self.app {
            // Says so if there is no such app.
            Some(app) => self.last(&client, &["apps", app, "events"]).await?,
            None => self.last(&client, &["events"]).await?,
        };
        events.reverse();
        if events.is_empty() && !self.follow {
            say_aside("no events")?;
        }
        let mut seen = 0;
        loop {
            for event in &events {
                seen = event.id;
                self.show(event)?;
            }
            if !self.follow {
                return Ok(Outcome::Done);
            }
            tokio::time::sleep(ROUND).await;
            events = self.since(&client, seen).await?;
        }
    }

    async fn last(&self, client: &Client, path: &[&str]) -> anyhow::Result<Vec<EventRecord>> {
        let limit = self.limit.to_string();
        let found: List<EventRecord> = client.list(path, &[("limit", &limit)]).await?;
        Ok(found.items)
    }

    async fn since(&self, client: &Client, seen: u64) -> anyhow::Result<Vec<EventRecord>> {
        let seen = seen.to_string();
        let mut query = vec![("since", seen.as_str())];
        if let Some(app) = &self.app {
            query.extend([("kind", "App"), ("name", app)]);
        }
        let found: List<EventRecord> = client.list(&["events"], &query).await?;
        Ok(found.items)
    }

    fn show(&self, event: &EventRecord) -> anyhow::Result<()> {
        match self.output {
            Output::Json => say(serde_json::to_string(event)?)?,
            Output::Table => {
                let EventRecord { at, kind, name, r#type, message, .. } = event;
                say(format_args!("{at}  {kind}/{name}  {}  {message}", r#type))?;
            }
        }
        Ok(())
    }
}
