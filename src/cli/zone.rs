//! `weir zone`: the DNS zones that Weir answers for.

use std::{fs, io, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::{Method, header};
use weir_config::{HostedZone, ZoneManifest, ZoneSpec};
use weir_control::api::wire::{List, Phase, RecordsChanged, ZoneResource};

use super::{
    change::counted,
    client::Connection,
    outcome::{Outcome, say, say_aside},
    output::Output,
    table::Table,
};

/// Create, show, import and export the DNS zones that Weir answers for.
///
/// A zone is written as a file for `weir apply` too. Its SOA and NS records are made by themselves,
/// and so are the records of apps whose names are in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir zone create example.com --address 192.0.2.1
  weir zone ls
  weir zone import example.com example.com.zone
  weir zone export example.com > example.com.zone
  weir zone delete example.com

Exit codes: 0 done, 1 problems in what is written, 2 the server refuses or is not there, 3 the zone
is not served as written.")]
pub(crate) struct Zone {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Ls(Ls),
    Show(Show),
    Create(Create),
    Delete(Named),
    Import(Import),
    Export(Export),
}

/// List the zones.
#[derive(Debug, Args)]
struct Ls {
    /// How to show them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Show a zone as it is written and served.
#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    named: Named,
}

/// Create a zone.
#[derive(Debug, Args)]
struct Create {
    /// A public address of this Weir, which the names of apps lead to; may be repeated
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<String>,
    /// A server that answers for the zone; may be repeated [default: ns1 in front of its name]
    #[arg(long = "nameserver", value_name = "NAME")]
    nameservers: Vec<String>,
    /// The mail address of who is responsible [default: hostmaster@ and its name]
    #[arg(long, value_name = "ADDRESS")]
    hostmaster: Option<String>,
    #[command(flatten)]
    named: Named,
}

/// Make the records in a zone file all records of a zone, in the place of those that it has.
///
/// Everything in the file is checked first. SOA and NS records of the zone itself are left out,
/// because they are made from the zone; its serial goes on after that of the file.
#[derive(Debug, Args)]
struct Import {
    #[command(flatten)]
    named: Named,
    /// A zone file (RFC 1035); `-` is standard input
    file: PathBuf,
}

/// Print a zone as a zone file.
#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    named: Named,
    /// Only what was written, without what is there by itself
    #[arg(long)]
    custom: bool,
}

#[derive(Debug, Args)]
struct Named {
    /// The name of the zone
    zone: String,
    #[command(flatten)]
    connection: Connection,
}

impl Zone {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        match self.verb {
            Verb::Ls(ls) => ls.run().await,
            Verb::Show(Show { named }) => named.show().await,
            Verb::Create(create) => create.run().await,
            Verb::Delete(named) => named.delete().await,
            Verb::Import(import) => import.run().await,
            Verb::Export(export) => export.run().await,
        }
    }
}

impl Ls {
    async fn run(self) -> anyhow::Result<Outcome> {
        let list: List<ZoneResource> = self.connection.open()?.get(&["zones"]).await?;
        match self.output {
            Output::Json => say(serde_json::to_string_pretty(&list)?)?,
            Output::Table if list.items.is_empty() => say_aside("no zones")?,
            Output::Table => say(zones(list.items))?,
        }
        Ok(Outcome::Done)
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<Outcome> {
        let Self { addresses, nameservers, hostmaster, named } = self;
        let spec = ZoneSpec { addresses, nameservers, hostmaster, ..ZoneSpec::default() };
        let (kind, name) = ("Zone".to_owned(), named.zone);
        let manifest = ZoneManifest { kind, name, spec };
        let zone = match HostedZone::from_manifest(&manifest) {
            Ok(zone) => zone,
            Err(problems) => {
                say_aside(format_args!("error: {problems}"))?;
                return Ok(Outcome::Invalid);
            }
        };
        let client = named.connection.open()?;
        let request = client.request(Method::PUT, &["zones", &zone.name], &[]);
        let request = request.header(header::IF_NONE_MATCH, "*").json(&manifest);
        let created: ZoneResource = client.json(request).await?;
        say(format_args!("Zone/{}  {}", created.name, summary(&created)))?;
        let servers: Vec<_> = zone.nameservers.iter().map(ToString::to_string).collect();
        say(format_args!("    delegate it to: {}", servers.join(", ")))?;
        Ok(if created.status.phase == Phase::Failed { Outcome::Failed } else { Outcome::Done })
    }
}

impl Named {
    async fn show(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let zone: ZoneResource = client.get(&["zones", &self.zone]).await?;
        say(serde_json::to_string_pretty(&zone)?)?;
        Ok(Outcome::Done)
    }

    async fn delete(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        client.send(client.request(Method::DELETE, &["zones", &self.zone], &[])).await?;
        say(format_args!("Zone/{}  deleted", self.zone))?;
        Ok(Outcome::Done)
    }
}

impl Import {
    async fn run(self) -> anyhow::Result<Outcome> {
        let text = match self.file.as_os_str() == "-" {
            true => io::read_to_string(io::stdin()).context("cannot read standard input")?,
            false => fs::read_to_string(&self.file)
                .with_context(|| format!("cannot read {}", self.file.display()))?,
        };
        let client = self.named.connection.open()?;
        let path = ["zones", &self.named.zone, "actions", "import"];
        let request = client.request(Method::POST, &path, &[]).body(text);
        let request = request.header(header::CONTENT_TYPE, "text/dns; charset=utf-8");
        let RecordsChanged { sets, left_out } = client.json(request).await?;
        let sets = counted(sets as usize, "record set");
        say(format_args!("Zone/{}  {sets} imported", self.named.zone))?;
        for line in left_out {
            say(format_args!("    left out, made by itself: {line}"))?;
        }
        Ok(Outcome::Done)
    }
}

impl Export {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.named.connection.open()?;
        let query: &[_] = if self.custom { &[("custom", "true")] } else { &[] };
        let request = client.request(Method::GET, &["zones", &self.named.zone, "export"], query);
        let text = client.send(request).await?.text().await?;
        say(text.trim_end())?;
        Ok(Outcome::Done)
    }
}

/// How a zone is served, in a few words.
pub(super) fn summary(zone: &ZoneResource) -> String {
    let status = &zone.status;
    let serial = status.serial.map(|serial| format!(", serial {serial}")).unwrap_or_default();
    let message = status.message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let records = counted(status.records as usize, "record");
    format!("{}, {records}{serial}{message}", status.phase.as_str())
}

pub(super) fn zones(items: Vec<ZoneResource>) -> Table<5> {
    let mut table = Table::new(["NAME", "PHASE", "RECORDS", "SERIAL", "MESSAGE"]);
    for ZoneResource { name, status, .. } in items {
        let serial = status.serial.map(|serial| serial.to_string()).unwrap_or_default();
        let (phase, records) = (status.phase.as_str().to_owned(), status.records.to_string());
        table.row([name, phase, records, serial, status.message.unwrap_or_default()]);
    }
    table
}
