//! `weir domain`: host names of apps outside the base domain, and which records they need.

use clap::{Args, Subcommand};
use reqwest::Method;
use weir_control::api::wire::{DomainResource, List};

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say, say_aside},
    output::Output,
    table::Table,
};

/// Say which records the domains of apps need, and what is seen of them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir domain ls
  weir domain show www.example.com
  weir domain check www.example.com

Exit codes: 0 done, 2 the server refuses or is not there, 3 the domain is not ready.")]
pub(crate) struct Domain {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them
    #[command(alias = "list")]
    Ls {
        /// How to show them
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show one, as it was seen last
    Show(One),
    /// Ask the DNS now
    Check(One),
}

#[derive(Debug, Args)]
struct One {
    name: String,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Domain {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.verb {
            Verb::Ls { output } => list(&client, output).await,
            Verb::Show(One { name, output }) => {
                show(&client.get(&["domains", &name]).await?, output)
            }
            Verb::Check(One { name, output }) => {
                let path = ["domains", &name, "actions", "check"];
                let request = client.request(Method::POST, &path, &[]);
                show(&client.json(request).await?, output)
            }
        }
    }
}

async fn list(client: &Client, output: Output) -> anyhow::Result<Outcome> {
    let (mut items, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let query: Vec<_> = cursor.iter().map(|cursor| ("cursor", cursor.as_str())).collect();
        let page: List<DomainResource> = client.list(&["domains"], &query).await?;
        items.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if let Output::Json = output {
        say(serde_json::to_string_pretty(&items)?)?;
        return Ok(Outcome::Done);
    }
    if items.is_empty() {
        say_aside("no domains")?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(["NAME", "APP", "STATE", "CERTIFICATE", "MESSAGE"]);
    for DomainResource { name, app, state, certificate, message, .. } in items {
        table.row([name, app, state, certificate, message]);
    }
    say(table)?;
    Ok(Outcome::Done)
}

fn show(shown: &DomainResource, output: Output) -> anyhow::Result<Outcome> {
    let outcome = if shown.state == "ready" { Outcome::Done } else { Outcome::Failed };
    if let Output::Json = output {
        say(serde_json::to_string_pretty(shown)?)?;
        return Ok(outcome);
    }
    let DomainResource { name, app, state, certificate, message, .. } = shown;
    say(format_args!("Domain/{name}  {state}: {message}"))?;
    say(format_args!("app {app}, certificate {certificate}"))?;
    for (i, group) in shown.needed.iter().enumerate() {
        say(if i == 0 { "\nwrite this:" } else { "\nor this:" })?;
        for record in group {
            say(format_args!("  {record}"))?;
        }
    }
    if !shown.seen.is_empty() {
        say("\nseen now:")?;
    }
    for record in &shown.seen {
        say(format_args!("  {record}"))?;
    }
    Ok(outcome)
}
