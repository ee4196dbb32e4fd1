//! `weir get`: what there is.

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weir_control::api::wire::{
    AppResource, HostResource, InstanceResource, ShardResource, ZoneResource,
};

use super::{
    change::source,
    client::{Client, Connection},
    outcome::{Outcome, say, say_aside},
    output::Output,
    table::Table,
    zone::zones,
};

/// Show apps, shards, instances, hosts or zones.
///
/// As a table for people, or as the API's own objects for programs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir get apps
  weir get instances shop
  weir get shards east
  weir get apps shop -o json | jq .status.phase")]
pub(crate) struct Get {
    /// What to show
    #[arg(value_enum)]
    kind: Kind,
    /// Only the one of this name: of a shard its members, of an app also its instances
    name: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    #[value(alias = "app")]
    Apps,
    #[value(alias = "shard")]
    Shards,
    #[value(alias = "instance")]
    Instances,
    #[value(alias = "host")]
    Hosts,
    #[value(alias = "zone")]
    Zones,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Apps => "apps",
            Self::Shards => "shards",
            Self::Instances => "instances",
            Self::Hosts => "hosts",
            Self::Zones => "zones",
        }
    }
}

impl Get {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let objects = self.fetch(&self.connection.open()?).await?;
        if let Output::Json = self.output {
            say(serde_json::to_string_pretty(&objects)?)?;
            return Ok(Outcome::Done);
        }
        let items = objects.get("items").cloned().unwrap_or_else(|| json!([objects]));
        if items.as_array().is_some_and(Vec::is_empty) {
            say_aside(format_args!("no {}", self.kind.path()))?;
            return Ok(Outcome::Done);
        }
        match self.kind {
            Kind::Apps => say(apps(read(items)?))?,
            Kind::Shards if self.name.is_some() => say(members(read(items)?))?,
            Kind::Shards => say(shards(read(items)?))?,
            Kind::Instances => say(instances(read(items)?))?,
            Kind::Hosts => say(hosts(read(items)?))?,
            Kind::Zones => say(zones(read::<ZoneResource>(items)?))?,
        }
        Ok(Outcome::Done)
    }

    async fn fetch(&self, client: &Client) -> anyhow::Result<Value> {
        let path = self.kind.path();
        match (self.kind, &self.name) {
            (Kind::Apps | Kind::Shards | Kind::Hosts | Kind::Zones, Some(name)) => {
                Ok(client.get(&[path, name]).await?)
            }
            (_, None) => Ok(client.get(&[path]).await?),
            (_, Some(name)) => only(name, client.get(&[path]).await?, path),
        }
    }
}

/// The API shows these as a list only.
fn only(name: &str, mut list: Value, path: &str) -> anyhow::Result<Value> {
    let is_meant = |item: &Value| item["name"] == name || item["app"] == name;
    let items = list.get_mut("items").and_then(Value::as_array_mut);
    let items = items.context("the server's answer is not a list")?;
    items.retain(is_meant);
    if items.is_empty() {
        bail!("there are no {path} of the name `{name}`");
    }
    Ok(list)
}

fn read<T: DeserializeOwned>(items: Value) -> anyhow::Result<Vec<T>> {
    serde_json::from_value(items).context("the server is of another version; try -o json")
}

fn apps(items: Vec<AppResource>) -> Table<6> {
    let mut table = Table::new(["NAME", "PHASE", "READY", "DEPLOYMENT", "SOURCE", "URL"]);
    for AppResource { name, spec, status, .. } in items {
        let phase = match &status.failure {
            Some(failure) => format!("{} ({})", status.phase.as_str(), failure.reason),
            None => status.phase.as_str().to_owned(),
        };
        let ready = format!("{}/{}", status.ready_instances, status.desired_instances);
        let deployment = status.deployment.map(|number| number.to_string()).unwrap_or_default();
        let source = status.image.unwrap_or_else(|| source(&spec));
        table.row([name, phase, ready, deployment, source, status.url]);
    }
    table
}

fn shards(items: Vec<ShardResource>) -> Table<4> {
    let mut table = Table::new(["NAME", "PHASE", "READY", "HASH"]);
    for ShardResource { name, spec, status, .. } in items {
        let ready = format!("{}/{}", status.ready_members, spec.members.len());
        let hash = spec.balance.hash.unwrap_or_default();
        table.row([name, status.phase.as_str().to_owned(), ready, hash]);
    }
    table
}

fn members(items: Vec<ShardResource>) -> Table<6> {
    let mut table = Table::new(["NAME", "STATE", "ADDRESS", "WEIGHT", "IN-FLIGHT", "MESSAGE"]);
    for member in items.into_iter().flat_map(|shard| shard.status.members) {
        table.row([
            member.name,
            member.state,
            member.address,
            member.weight.to_string(),
            member.requests_in_flight.to_string(),
            member.message.unwrap_or_default(),
        ]);
    }
    table
}

fn instances(items: Vec<InstanceResource>) -> Table<8> {
    let mut table = Table::new([
        "NAME",
        "STATE",
        "HOST",
        "ADDRESS",
        "CONTAINER",
        "IN-FLIGHT",
        "RESTARTS",
        "MESSAGE",
    ]);
    for instance in items {
        let state = match &instance.doing {
            Some(doing) => format!("{} ({doing})", instance.state),
            None => instance.state,
        };
        table.row([
            instance.name,
            state,
            instance.host,
            instance.address.unwrap_or_default(),
            instance.container.unwrap_or_default(),
            instance.requests_in_flight.to_string(),
            instance.restarts.to_string(),
            instance.message.unwrap_or_default(),
        ]);
    }
    table
}

fn hosts(items: Vec<HostResource>) -> Table<8> {
    let mut table =
        Table::new(["NAME", "STATE", "REGION", "CPUS", "MEMORY", "INSTANCES", "ENGINE", "MESSAGE"]);
    for HostResource { name, spec, status, .. } in items {
        let state = match (spec.draining, spec.cordoned) {
            (true, _) => format!("{} (draining)", status.state),
            (false, true) => format!("{} (cordoned)", status.state),
            (false, false) => status.state,
        };
        let instances = match spec.capacity.instances {
            Some(limit) => format!("{}/{limit}", status.instances),
            None => status.instances.to_string(),
        };
        table.row([
            name,
            state,
            spec.region.unwrap_or_default(),
            status.cpus.map(|cpus| cpus.to_string()).unwrap_or_default(),
            status.memory.map(gibibytes).unwrap_or_default(),
            instances,
            status.engine.unwrap_or_default(),
            status.message.unwrap_or_default(),
        ]);
    }
    table
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1}GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_found_by_its_name_or_its_app() {
        let list = json!({"items": [
            {"name": "shop-1-0", "app": "shop"}, {"name": "shop-1-1", "app": "shop"},
            {"name": "blog-1-0", "app": "blog"},
        ]});
        let count =
            |name| Some(only(name, list.clone(), "instances").ok()?["items"].as_array()?.len());
        assert_eq!(
            ["shop", "shop-1-1", "blog", "sho"].map(count),
            [Some(2), Some(1), Some(1), None]
        );
    }

    #[test]
    fn memory_is_told_in_one_unit() {
        assert_eq!(gibibytes(8_264_044_544), "7.7GiB");
    }
}
