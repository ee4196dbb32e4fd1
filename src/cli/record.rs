//! `weir record`: the records of a zone.

use clap::{Args, Subcommand};
use reqwest::Method;
use weir_config::{MAX_SECONDS, RecordSetSpec, Span};
use weir_control::api::wire::{List, RecordSetResource, RecordSource};

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say, say_aside},
    output::Output,
    table::Table,
};

/// Show, set and delete the DNS records of a zone.
///
/// A name is written as within the zone, or whole: `www`, `www.example.com`, and `@` for the zone's
/// own. What is written takes the place of the records that a name has by itself, and when it is
/// deleted those return.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir record ls example.com
  weir record set example.com www A 192.0.2.1 192.0.2.2
  weir record set example.com @ MX '10 mail.example.com.' --ttl 1h
  weir record set example.com @ ALIAS shop.example.net.
  weir record delete example.com www A

Exit codes: 0 done, 2 the server refuses or is not there.")]
pub(crate) struct Record {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Ls(Ls),
    Set(Set),
    Delete(Delete),
}

/// List the records of a zone, those that are there by themselves too.
#[derive(Debug, Args)]
struct Ls {
    /// The name of the zone
    zone: String,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Make these all records of a name and type.
#[derive(Debug, Args)]
struct Set {
    #[command(flatten)]
    place: Place,
    /// The data of each record, as in a zone file; names in it are absolute
    #[arg(required = true)]
    data: Vec<String>,
    /// How long others may keep it [default: the zone's]
    #[arg(long, value_name = "SPAN", value_parser = Span::parse)]
    ttl: Option<Span>,
    #[command(flatten)]
    connection: Connection,
}

/// Delete the records of a name and type.
#[derive(Debug, Args)]
struct Delete {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct Place {
    /// The name of the zone
    zone: String,
    /// The name within it, or `@`
    name: String,
    /// The type, as A, MX or TXT
    #[arg(value_name = "TYPE")]
    rtype: String,
}

/// So many are asked for at once.
const PAGE: &str = "1000";

impl Record {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        match self.verb {
            Verb::Ls(ls) => ls.run().await,
            Verb::Set(set) => set.run().await,
            Verb::Delete(delete) => delete.run().await,
        }
    }
}

impl Ls {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let items = all(&client, &self.zone).await?;
        match self.output {
            Output::Json => {
                let list = List { items, next_cursor: None, revision: None };
                say(serde_json::to_string_pretty(&list)?)?;
            }
            Output::Table if items.is_empty() => {
                say_aside(format_args!("{} has no records", self.zone))?;
            }
            Output::Table => {
                let mut table = Table::new(["NAME", "TYPE", "TTL", "SOURCE", "DATA"]);
                for RecordSetResource { name, r#type, ttl, data, source } in items {
                    let source = match source {
                        RecordSource::Auto => "auto",
                        RecordSource::Custom => "custom",
                    };
                    for data in data {
                        let (name, rtype) = (name.clone(), r#type.clone());
                        table.row([name, rtype, ttl.to_string(), source.to_owned(), data]);
                    }
                }
                say(table)?;
            }
        }
        Ok(Outcome::Done)
    }
}

async fn all(client: &Client, zone: &str) -> anyhow::Result<Vec<RecordSetResource>> {
    let (mut items, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut query = vec![("limit", PAGE)];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: List<RecordSetResource> =
            client.list(&["zones", zone, "records"], &query).await?;
        items.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(items),
        }
    }
}

impl Place {
    fn path(&self) -> [&str; 5] {
        ["zones", &self.zone, "records", &self.name, &self.rtype]
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let ttl = self.ttl.map(|ttl| ttl.0.as_secs().min(MAX_SECONDS.into()) as u32);
        let (name, r#type) = (String::new(), String::new());
        let spec = RecordSetSpec { name, r#type, ttl, data: self.data };
        let request = client.request(Method::PUT, &self.place.path(), &[]).json(&spec);
        let set: RecordSetResource = client.json(request).await?;
        say(format_args!("{} {} {}  set", set.name, set.r#type, set.data.join(", ")))?;
        Ok(Outcome::Done)
    }
}

impl Delete {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        client.send(client.request(Method::DELETE, &self.place.path(), &[])).await?;
        let Place { zone, name, rtype } = &self.place;
        say(format_args!("{name} {rtype} of {zone}  deleted"))?;
        Ok(Outcome::Done)
    }
}
