//! `weir operation`: what was asked for, and what came of it.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use reqwest::Method;
use weir_config::Span;
use weir_control::api::wire::{List, OperationResource};

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say},
    output::Output,
    rolling_update,
    table::Table,
};

/// Show what was asked for and what came of it.
///
/// Every change has an operation. It is settled when it has succeeded or failed, or when a newer one
/// has taken its place.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir operation ls
  weir operation ls --app shop
  weir operation show op_12
  weir operation wait op_12 --wait 5m
  weir operation cancel op_12

Exit codes of `wait`: 0 succeeded, 2 the server refuses or is not there, 3 it did not succeed,
4 the time is up and it goes on.")]
pub(crate) struct Operation {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The last operations, the newest first
    Ls(Ls),
    /// One operation
    Show(Show),
    /// Wait until an operation is settled
    Wait(Wait),
    /// Call off a rolling update or a converge; what it has begun comes to its end
    Cancel(Cancel),
}

#[derive(Debug, Args)]
struct Ls {
    /// Only those on this app
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct Show {
    /// As in `Weir-Operation`, or in `weir operation ls`
    id: String,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct Wait {
    /// As in `Weir-Operation`, or in `weir operation ls`
    id: String,
    /// Wait at most this long
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = Span::parse)]
    wait: Span,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct Cancel {
    /// As in `Weir-Operation`, or in `weir operation ls`
    id: String,
    #[command(flatten)]
    connection: Connection,
}

impl Operation {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Ls(command) => command.run().await,
            Command::Show(command) => command.run().await,
            Command::Wait(command) => command.run().await,
            Command::Cancel(command) => command.run().await,
        }
    }
}

impl Ls {
    async fn run(self) -> anyhow::Result<Outcome> {
        let limit = self.limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        if let Some(app) = &self.app {
            query.extend([("kind", "App"), ("name", app)]);
        }
        let client = self.connection.open()?;
        let found: List<OperationResource> = client.list(&["operations"], &query).await?;
        self.output.list(found, "no operations", table)
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let found: OperationResource = client.get(&["operations", &self.id]).await?;
        if let Output::Json = self.output {
            say(serde_json::to_string_pretty(&found)?)?;
            return Ok(Outcome::Done);
        }
        let apps: Vec<_> = found.apps.iter().map(rolling_update::line).collect();
        say(table(vec![found]))?;
        for app in apps {
            say(app)?;
        }
        Ok(Outcome::Done)
    }
}

impl Wait {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let since = Instant::now();
        loop {
            let left = self.wait.0.saturating_sub(since.elapsed());
            let operation = settled(&client, &self.id, left).await?;
            let outcome = match operation.state.as_str() {
                "running" if left.is_zero() => Outcome::TimedOut,
                "running" => continue,
                "succeeded" => Outcome::Done,
                _ => Outcome::Failed,
            };
            say(line(&operation))?;
            return Ok(outcome);
        }
    }
}

impl Cancel {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let path = ["operations", &self.id, "actions", "cancel"];
        let operation = client.json(client.request(Method::POST, &path, &[])).await?;
        say(line(&operation))?;
        Ok(Outcome::Done)
    }
}

async fn settled(client: &Client, id: &str, limit: Duration) -> anyhow::Result<OperationResource> {
    Ok(client.settled(&["operations", id], limit).await?)
}

fn line(operation: &OperationResource) -> String {
    let OperationResource { id, kind, name, verb, state, message, .. } = operation;
    let why = if message.is_empty() { String::new() } else { format!(": {message}") };
    format!("{id}  {verb} {kind}/{name}  {state}{why}")
}

fn table(operations: Vec<OperationResource>) -> Table<7> {
    let mut table = Table::new(["ID", "AT", "ACTOR", "VERB", "OBJECT", "STATE", "MESSAGE"]);
    for operation in operations {
        table.row([
            operation.id,
            operation.created_at,
            operation.actor,
            operation.verb,
            format!("{}/{}", operation.kind, operation.name),
            operation.state,
            operation.message,
        ]);
    }
    table
}
