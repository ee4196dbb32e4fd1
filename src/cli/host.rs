//! `weir host` and `weir shard`: which hosts take instances, and which instances are where.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use reqwest::Method;
use weir_control::api::wire::{ConvergeRequest, DriftResource, HostResource, List};

use super::{
    change::counted,
    client::{Client, Connection},
    outcome::{Outcome, say, took},
    progress::{ROUND, WaitArgs},
    rolling_update::RollingUpdate,
};

/// Say which hosts take instances, and bring instances to where they would be placed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir host cordon b
  weir host drain b
  weir host uncordon b
  weir host converge --dry-run

Exit codes: 0 done, 2 the server refuses or is not there, 4 the time is up and it goes on.")]
pub(crate) struct Host {
    #[command(subcommand)]
    verb: HostVerb,
}

#[derive(Debug, Subcommand)]
enum HostVerb {
    /// Place nothing new on a host; what it has stays
    Cordon(Named),
    /// Place instances on a host again
    Uncordon(Named),
    /// Move what a host has to others; each instance is ready there before it leaves
    Drain {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Bring every instance to the host that it would be placed on now, as after a host was added
    Converge(ConvergeArgs),
}

/// Look after a shard's hosts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir shard converge east --dry-run
  weir shard converge east
  weir shard deploy east --image registry.example.com/shop:1.2 --parallel 2
  weir shard deploy east --image registry.example.com/shop:1.2 --max-failed 10

Exit codes: 0 done, 2 the server refuses or is not there, 3 a deployment failed and it stopped,
4 the time is up and it goes on.")]
pub(crate) struct Shard {
    #[command(subcommand)]
    verb: ShardVerb,
}

#[derive(Debug, Subcommand)]
enum ShardVerb {
    /// Bring the instances of the apps on a shard's hosts to where they would be placed now
    Converge {
        /// The name of the shard
        name: String,
        #[command(flatten)]
        converge: ConvergeArgs,
    },
    /// Deploy an image to every app on a shard's hosts, some at a time
    Deploy(RollingUpdate),
}

#[derive(Debug, Args)]
struct Named {
    /// The name of the host
    name: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct ConvergeArgs {
    /// Print what would move, and move nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Host {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        match self.verb {
            HostVerb::Cordon(named) => {
                let host = named.act("cordon").await?;
                let kept = counted(host.status.instances as usize, "instance");
                say(format_args!("Host/{}  cordoned; it keeps {kept}", host.name))?;
                Ok(Outcome::Done)
            }
            HostVerb::Uncordon(named) => {
                let host = named.act("uncordon").await?;
                say(format_args!("Host/{}  takes instances", host.name))?;
                Ok(Outcome::Done)
            }
            HostVerb::Drain { named, wait } => named.drain(wait).await,
            HostVerb::Converge(converge) => converge.run(&["hosts", "actions", "converge"]).await,
        }
    }
}

impl Shard {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        match self.verb {
            ShardVerb::Converge { name, converge } => {
                converge.run(&["shards", &name, "actions", "converge"]).await
            }
            ShardVerb::Deploy(update) => update.run().await,
        }
    }
}

impl Named {
    async fn act(&self, action: &str) -> anyhow::Result<HostResource> {
        let client = self.connection.open()?;
        let path = ["hosts", &self.name, "actions", action];
        Ok(client.json(client.request(Method::POST, &path, &[])).await?)
    }

    async fn drain(&self, wait: WaitArgs) -> anyhow::Result<Outcome> {
        let since = Instant::now();
        let mut host = self.act("drain").await?;
        let client = self.connection.open()?;
        let name = &self.name;
        let Some(limit) = wait.limit() else {
            say(format_args!("Host/{name}  accepted; see it by: weir get hosts {name}"))?;
            return Ok(Outcome::Done);
        };
        loop {
            let (left, time) = (host.status.instances, took(since.elapsed()));
            if left == 0 {
                say(format_args!("Host/{name}  drained in {time}"))?;
                return Ok(Outcome::Done);
            }
            if since.elapsed() >= limit {
                let left = counted(left as usize, "instance");
                say(format_args!("Host/{name}  still has {left} after {time}"))?;
                say("    the server goes on; see them by: weir get instances")?;
                return Ok(Outcome::TimedOut);
            }
            tokio::time::sleep(ROUND).await;
            host = client.get(&["hosts", name]).await?;
        }
    }
}

impl ConvergeArgs {
    /// Begins it, and tells what moves until nothing is left to.
    async fn run(&self, path: &[&str]) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let since = Instant::now();
        let mut told = BTreeSet::new();
        let mut drift = drift(&client, path, self.dry_run).await?;
        loop {
            for item in &drift {
                if told.insert(item.instance.clone()) {
                    say(format_args!("~ {}  is on {}", item.instance, item.host))?;
                }
            }
            let (left, time) = (counted(drift.len(), "instance"), took(since.elapsed()));
            if self.dry_run {
                say(format_args!("{left} would move"))?;
                return Ok(Outcome::Done);
            }
            if drift.is_empty() {
                say(format_args!(
                    "converged in {time}; {} moved",
                    counted(told.len(), "instance")
                ))?;
                return Ok(Outcome::Done);
            }
            if since.elapsed() >= self.wait.limit().unwrap_or(Duration::ZERO) {
                say(format_args!("{left} left to move after {time}; the server goes on"))?;
                let is_late = self.wait.limit().is_some();
                return Ok(if is_late { Outcome::TimedOut } else { Outcome::Done });
            }
            tokio::time::sleep(ROUND).await;
            drift = self::drift(&client, path, true).await?;
        }
    }
}

async fn drift(
    client: &Client,
    path: &[&str],
    dry_run: bool,
) -> anyhow::Result<Vec<DriftResource>> {
    let request = client.request(Method::POST, path, &[]).json(&ConvergeRequest { dry_run });
    let list: List<DriftResource> = client.json(request).await?;
    Ok(list.items)
}
