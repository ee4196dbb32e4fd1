//! `weir snapshot`: what is served, and what is kept from it.

use clap::{Args, Subcommand};
use reqwest::Method;
use weir_control::api::wire::SnapshotResource;

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say},
    output::Output,
    table::Table,
};

/// Show what is served and whose change is not, and confirm what is held.
///
/// When much of what is served would be lost at once though nobody has asked for it, Weir serves
/// it on for a minute. What was first served just before the process died, twice, is in quarantine.
/// `confirm` says that both are right.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir snapshot show
  weir snapshot confirm

Exit codes: 0 done, 2 the server refuses or is not there.")]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is served and whose change is not
    Show {
        /// How to show it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Let through what is held
    Confirm,
}

impl Snapshot {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.command {
            Command::Show { output } => show(&client, output).await?,
            Command::Confirm => {
                let path = ["snapshot", "actions", "confirm"];
                client.send(client.request(Method::POST, &path, &[])).await?;
                say("what is held is let through")?;
            }
        }
        Ok(Outcome::Done)
    }
}

async fn show(client: &Client, output: Output) -> anyhow::Result<()> {
    let snapshot: SnapshotResource = client.get(&["snapshot"]).await?;
    if let Output::Json = output {
        return Ok(say(serde_json::to_string_pretty(&snapshot)?)?);
    }
    let SnapshotResource { generation, revision, host_names, refused } = snapshot;
    say(format_args!(
        "snapshot {generation} of revision {revision} serves {host_names} host names"
    ))?;
    if refused.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["NOT SERVED", "WHY", "FOR", "MESSAGE"]);
    for refusal in refused {
        let since = format!("{}s", refusal.seconds);
        table.row([refusal.subject, refusal.cause, since, refusal.message]);
    }
    Ok(say(table)?)
}
