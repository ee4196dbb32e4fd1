//! `weir logs`: what an app's processes write.

use clap::Args;
use reqwest::Method;
use weir_control::api::wire::LogRecord;

use super::{
    client::Connection,
    client_error::ClientError,
    deployment_log,
    lines::Lines,
    outcome::{Outcome, say, say_aside},
};

/// Print what an app's processes write.
///
/// What they write to standard error is printed to standard error. If the app has several
/// instances, each line begins with the name of its instance.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir logs shop
  weir logs shop --tail 20 -f
  weir logs shop 2>/dev/null | grep GET
  weir logs shop --deployment 3

Exit codes of `--deployment`: 0 it became ready, 2 the server refuses or is not there, 3 it did not.")]
pub(crate) struct Logs {
    /// The name of the app
    app: String,
    /// Go on with the lines to come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines of each instance [default: 100]
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Instead, print how this deployment went: its steps, and what its instances wrote until it
    /// was ready or had failed
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["follow", "tail"])]
    deployment: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

impl Logs {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        if let Some(number) = self.deployment {
            return deployment_log::print(&client, &self.app, number).await;
        }
        let instances = client.instances_of(&self.app).await?;
        let several = instances.iter().filter(|i| i.container.is_some()).count() > 1;
        let tail = self.tail.map(|n| n.to_string());
        let mut query = vec![("follow", if self.follow { "true" } else { "false" })];
        query.extend(tail.as_deref().map(|n| ("tail", n)));
        let request = client.request(Method::GET, &["apps", &self.app, "logs"], &query);
        let mut answer = client.send(request).await?;
        let mut lines = Lines::default();
        while let Some(chunk) = answer.chunk().await.map_err(ClientError::interrupted)? {
            for line in lines.split(&chunk).iter().filter(|line| !line.is_empty()) {
                print(&serde_json::from_slice(line)?, several)?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn print(record: &LogRecord, with_instance: bool) -> std::io::Result<()> {
    let line = match with_instance {
        true => format!("{} | {}", record.instance, record.text),
        false => record.text.clone(),
    };
    if record.stream == "stderr" { say_aside(line) } else { say(line) }
}
