//! `weir audit`: who changed what.

use clap::Args;
use weir_control::api::wire::{AuditRecord, List};

use super::{
    change::differences, client::Connection, outcome::Outcome, output::Output, table::Table,
};

/// Show who changed what.
///
/// The last changes and actions, the newest first. Secrets are not kept: neither all of `secrets`
/// nor variables whose names look like it. Weir keeps 90 days.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir audit
  weir audit --app shop --limit 5
  weir audit --actor admin -o json | jq '.items[] | {at, verb, name, before, after}'")]
pub(crate) struct Audit {
    /// Only what was done to this app
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Only what was done with this token
    #[arg(long, value_name = "TOKEN")]
    actor: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let limit = self.limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        if let Some(app) = &self.app {
            query.extend([("kind", "App"), ("name", app)]);
        }
        query.extend(self.actor.as_deref().map(|actor| ("actor", actor)));
        let client = self.connection.open()?;
        let found: List<AuditRecord> = client.list(&["audit"], &query).await?;
        self.output.list(found, "nothing was changed", table)
    }
}

fn table(records: Vec<AuditRecord>) -> Table<6> {
    let mut table = Table::new(["ID", "AT", "ACTOR", "VERB", "OBJECT", "CHANGE"]);
    for record in records {
        let change = match (&record.before, &record.after) {
            (Some(before), Some(after)) => differences(before, after).join(", "),
            (None, Some(_)) => "made".to_owned(),
            (Some(_), None) => "removed".to_owned(),
            (None, None) => String::new(),
        };
        let object = format!("{}/{}", record.kind, record.name);
        table.row([record.id, record.at, record.actor, record.verb, object, change]);
    }
    table
}
