//! `weir incident`: what is wrong, and what was.

use clap::{Args, Subcommand};
use reqwest::Method;
use weir_control::api::wire::{IncidentDetails, IncidentResource, List, NoteRequest};

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say},
    output::Ls,
    table::Table,
};

/// Show what is wrong or was, and what has come of it.
///
/// Weir opens an incident when something has been wrong for a moment, and resolves it when the
/// cause is gone. `weir notifier` says who is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir incident ls
  weir incident ls --all -o json
  weir incident show inc-5f2c9a01b3d4
  weir incident ack inc-5f2c9a01b3d4
  weir incident note inc-5f2c9a01b3d4 'the disk is being replaced'

Exit codes: 0 done, 2 the server refuses or is not there.")]
pub(crate) struct Incident {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List those that are open, the newest first
    #[command(alias = "list")]
    Ls {
        /// Those too that are resolved
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        ls: Ls,
    },
    /// Show one with everything that has come of it
    Show { id: String },
    /// Say that you look after it
    Ack { id: String },
    /// End it; if its cause is still there, it is opened again
    Resolve { id: String },
    /// Add a line to its record
    Note { id: String, text: String },
}

/// More than these are asked for page by page, from the API.
const SHOWN: &str = "200";

impl Incident {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.command {
            Command::Ls { all, ls } => {
                let list = list(&client, all).await?;
                return ls.output.list(list, "no incidents", table);
            }
            Command::Show { id } => {
                let shown: IncidentDetails = client.get(&["incidents", &id]).await?;
                show(&shown)?;
            }
            Command::Ack { id } => {
                let acked = act(&client, &id, "acknowledge", None).await?;
                let who = acked.acknowledged_by.unwrap_or_default();
                say(format_args!("{id}  acknowledged by {who}"))?;
            }
            Command::Resolve { id } => {
                act(&client, &id, "resolve", None).await?;
                say(format_args!("{id}  resolved"))?;
            }
            Command::Note { id, text } => {
                act(&client, &id, "note", Some(NoteRequest { text })).await?;
                say(format_args!("{id}  noted"))?;
            }
        }
        Ok(Outcome::Done)
    }
}

async fn act(
    client: &Client,
    id: &str,
    action: &str,
    note: Option<NoteRequest>,
) -> anyhow::Result<IncidentResource> {
    let request = client.request(Method::POST, &["incidents", id, "actions", action], &[]);
    let request = match note {
        Some(note) => request.json(&note),
        None => request,
    };
    Ok(client.json(request).await?)
}

async fn list(client: &Client, all: bool) -> anyhow::Result<List<IncidentResource>> {
    let state = [("state", "open"), ("limit", SHOWN)];
    let query = if all { &state[1..] } else { &state[..] };
    Ok(client.list(&["incidents"], query).await?)
}

fn table(incidents: Vec<IncidentResource>) -> Table<7> {
    let mut table = Table::new(["ID", "STATE", "SEVERITY", "SUBJECT", "OPENED", "ACK", "TITLE"]);
    for incident in incidents {
        table.row([
            incident.id,
            incident.state,
            incident.severity.as_str().to_owned(),
            incident.subject,
            seconds(&incident.opened_at),
            incident.acknowledged_by.unwrap_or_default(),
            incident.title,
        ]);
    }
    table
}

fn show(IncidentDetails { incident, events }: &IncidentDetails) -> anyhow::Result<()> {
    let IncidentResource { id, subject, severity, title, detail, state, rule, .. } = incident;
    say(format_args!("{id}  {state}, {}: {title}", severity.as_str()))?;
    say(format_args!("{subject} by the rule {rule}: {detail}"))?;
    let mut table = Table::new(["AT", "WHO", "WHAT", "DETAIL"]);
    for event in events {
        let (actor, action) = (event.actor.clone(), event.action.clone());
        table.row([seconds(&event.at), actor, action, event.detail.clone()]);
    }
    Ok(say(table)?)
}

/// A time without what is less than a second.
fn seconds(rfc3339: &str) -> String {
    match rfc3339.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => rfc3339.to_owned(),
    }
}
