//! `weir domain`: host names of apps outside the base domain, and which records they need.

use clap::{Args, Subcommand};
use weir_control::api::wire::DomainResource;

use super::{
    client::Connection,
    outcome::{Outcome, say},
    output::{Ls, Output, Show},
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
    Ls(Ls),
    /// Show one, as it was seen last
    Show(Show),
    /// Ask the DNS now
    Check(Show),
}

impl Domain {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.verb {
            Verb::Ls(Ls { output }) => {
                output.list(client.all(&["domains"]).await?, "no domains", table)
            }
            Verb::Show(Show { name, output }) => {
                show(&client.get(&["domains", &name]).await?, output)
            }
            Verb::Check(Show { name, output }) => {
                show(&client.post(&["domains", &name, "actions", "check"]).await?, output)
            }
        }
    }
}

fn table(domains: Vec<DomainResource>) -> Table<5> {
    let mut table = Table::new(["NAME", "APP", "STATE", "CERTIFICATE", "MESSAGE"]);
    for DomainResource { name, app, state, certificate, message, .. } in domains {
        table.row([name, app, state, certificate, message]);
    }
    table
}

fn show(shown: &DomainResource, output: Output) -> anyhow::Result<Outcome> {
    output.one(shown, words)?;
    Ok(if shown.state == "ready" { Outcome::Done } else { Outcome::Failed })
}

fn words(shown: &DomainResource) -> anyhow::Result<()> {
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
    Ok(())
}
