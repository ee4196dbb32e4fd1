//! `weir notifier`: who is told of incidents.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use weir_config::{NotifierEvent, NotifierFormat, NotifierManifest, NotifierSpec, Severity};
use weir_control::api::wire::{NotifierResource, NotifierTest};

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say},
    output::Ls,
    table::Table,
};

/// Say who is told of incidents, by a webhook.
///
/// Messages are signed as <https://www.standardwebhooks.com> has it, or shaped for Slack. One that
/// is not taken is tried again for a day.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir notifier set ops --to https://example.com/hook --secret-file ./secret
  weir notifier set chat --to https://hooks.slack.com/services/... --format slack
  weir notifier test ops
  weir notifier ls
  weir notifier rm ops

Exit codes: 0 done, 2 the server refuses or is not there, 3 the test was not taken.")]
pub(crate) struct Notifier {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, with what is on its way
    #[command(alias = "list")]
    Ls(Ls),
    /// Make one, or change it
    Set(Set),
    /// Delete one, and what is on its way to it
    Rm { name: String },
    /// Send a test message now
    Test { name: String },
}

#[derive(Debug, Args)]
struct Set {
    name: String,
    /// Where messages are sent
    #[arg(long, value_name = "URL")]
    to: String,
    #[arg(long, value_enum, default_value_t = Format::Standard)]
    format: Format,
    /// A file with `whsec_` and 24 to 64 bytes in base64; `-` is standard input. Left out, the
    /// secret stays what it is
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Nothing less grave is told
    #[arg(long, value_enum, default_value_t = Grave::Warning)]
    min_severity: Grave,
    /// Not when an incident is over
    #[arg(long)]
    only_opened: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Standard,
    Slack,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Grave {
    Warning,
    Critical,
}

impl Notifier {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.command {
            Command::Ls(Ls { output }) => {
                let list = client.get(&["notifiers"]).await?;
                return output.list(list, "no notifiers", table);
            }
            Command::Set(set) => set.run(&client).await?,
            Command::Rm { name } => {
                client.delete(&["notifiers", &name]).await?;
                say(format_args!("Notifier/{name}  deleted"))?;
            }
            Command::Test { name } => return test(&client, &name).await,
        }
        Ok(Outcome::Done)
    }
}

impl Set {
    async fn run(self, client: &Client) -> anyhow::Result<()> {
        let mut events = vec![NotifierEvent::Opened];
        if !self.only_opened {
            events.push(NotifierEvent::Resolved);
        }
        let spec = NotifierSpec {
            url: self.to,
            format: match self.format {
                Format::Standard => NotifierFormat::Standard,
                Format::Slack => NotifierFormat::Slack,
            },
            secret: self.secret_file.as_deref().map(secret).transpose()?,
            events,
            min_severity: match self.min_severity {
                Grave::Warning => Severity::Warning,
                Grave::Critical => Severity::Critical,
            },
        };
        let name = self.name;
        let manifest = NotifierManifest { kind: "Notifier".to_owned(), name: name.clone(), spec };
        let request = client.request(Method::PUT, &["notifiers", &name], &[]).json(&manifest);
        client.json::<NotifierResource>(request).await?;
        say(format_args!("Notifier/{name}  is told; try it by: weir notifier test {name}"))?;
        Ok(())
    }
}

fn secret(file: &Path) -> anyhow::Result<String> {
    let text = match file.as_os_str() == "-" {
        true => io::read_to_string(io::stdin()).context("cannot read standard input")?,
        false => {
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
    };
    Ok(text.trim().to_owned())
}

fn table(notifiers: Vec<NotifierResource>) -> Table<6> {
    let mut table = Table::new(["NAME", "FORMAT", "SEVERITY", "QUEUED", "URL", "LAST-ERROR"]);
    for NotifierResource { name, spec, status, .. } in notifiers {
        let format = match spec.format {
            NotifierFormat::Standard => "standard",
            NotifierFormat::Slack => "slack",
        };
        table.row([
            name,
            format.to_owned(),
            spec.min_severity.as_str().to_owned(),
            status.queued.to_string(),
            spec.url,
            status.last_error.unwrap_or_default(),
        ]);
    }
    table
}

async fn test(client: &Client, name: &str) -> anyhow::Result<Outcome> {
    let NotifierTest { id, error, .. } =
        client.post(&["notifiers", name, "actions", "test"]).await?;
    match error {
        None => say(format_args!("Notifier/{name}  took the test message {id}"))?,
        Some(error) => {
            say(format_args!("Notifier/{name}  did not take it: {error}"))?;
            return Ok(Outcome::Failed);
        }
    }
    Ok(Outcome::Done)
}
