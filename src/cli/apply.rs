//! `weir apply`: makes apps, shards, hosts and zones what files say.

use std::{path::PathBuf, time::Instant};

use clap::Args;
use futures::future::join_all;
use reqwest::{Method, header};
use serde::{Serialize, de::DeserializeOwned};
use weir_config::{AppManifest, HostManifest, ShardManifest, ZoneManifest};
use weir_control::api::wire::{
    AppResource, HostResource, Phase, RolloutPreview, ShardResource, ZoneResource,
};

use super::{
    change::{Change, ChangeKind},
    client::{Client, Connection, etag},
    client_error::ClientError,
    manifests::Manifests,
    members::{follow_shard, report_accepted_shard},
    outcome::{Outcome, say, say_aside},
    progress::{WaitArgs, follow, is_well, report_accepted},
};

/// Create and change apps, shards, hosts and DNS zones as files say.
///
/// All files are checked first, and nothing is sent while there is a problem. Then it prints what
/// it will change, changes it, and waits for the result: `+` is a new object, `~` a changed one,
/// `=` one that is already as written. Hosts, zones and shards come before the apps
/// that need them. What no file
/// names is left alone. An object that somebody else changes between the plan and the change is
/// refused, not overwritten.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir apply -f shop.yaml
  weir apply -f shop.yaml -f blog.yaml --dry-run
  sed s/VERSION/1.2/ shop.yaml | weir apply -f -

Exit codes: 0 done, 1 problems in the files, 2 the server refuses or is not there,
3 an app does not run as written or a member is not ready, 4 the time is up and it goes on.")]
pub(crate) struct Apply {
    /// A file of one or several YAML documents; `-` is standard input; may be repeated
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

/// An object to be written.
enum Wanted<'a> {
    Host(&'a HostManifest),
    Zone(&'a ZoneManifest),
    Shard(&'a ShardManifest),
    App(&'a AppManifest),
}

/// An object whose end is waited for.
enum Written {
    Host(Box<HostResource>),
    Zone(Box<ZoneResource>),
    Shard(Box<ShardResource>, Instant),
    App(Box<AppResource>, Instant),
}

impl Apply {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let manifests = Manifests::read(&self.files);
        for problem in &manifests.problems {
            say_aside(problem)?;
        }
        if manifests.problems.is_empty() && manifests.is_empty() {
            say_aside("error: there is no app, shard, host or zone in these files")?;
        }
        if !manifests.problems.is_empty() || manifests.is_empty() {
            return Ok(Outcome::Invalid);
        }
        let client = self.connection.open()?;
        let mut changes = Vec::new();
        // As written already, but not running so: an apply that is repeated must not hide that.
        let mut unwell = Vec::new();
        for manifest in &manifests.hosts {
            let current = client.find::<HostResource>(&["hosts", &manifest.name]).await?;
            let change = Change::of_host(current.as_ref(), manifest);
            say(&change)?;
            if !matches!(change.kind(), ChangeKind::None) {
                changes.push((Wanted::Host(manifest), change));
            }
        }
        for manifest in &manifests.zones {
            let current = client.find::<ZoneResource>(&["zones", &manifest.name]).await?;
            let change = Change::of_zone(current.as_ref(), manifest);
            say(&change)?;
            if !matches!(change.kind(), ChangeKind::None) {
                changes.push((Wanted::Zone(manifest), change));
            }
        }
        for manifest in &manifests.shards {
            let current = client.find::<ShardResource>(&["shards", &manifest.name]).await?;
            let change = Change::of_shard(current.as_ref(), manifest);
            say(&change)?;
            match (change.kind(), current) {
                (ChangeKind::None, Some(shard)) if !is_well(shard.status.phase) => {
                    unwell.push(Written::Shard(Box::new(shard), Instant::now()));
                }
                (ChangeKind::None, _) => {}
                _ => changes.push((Wanted::Shard(manifest), change)),
            }
        }
        for manifest in &manifests.apps {
            let current = client.find::<AppResource>(&["apps", &manifest.name]).await?;
            let change = Change::of_app(current.as_ref(), manifest);
            say(&change)?;
            if let ChangeKind::Update { .. } = change.kind() {
                let path = ["apps", &manifest.name, "actions", "preview"];
                let request = client.request(Method::POST, &path, &[]).json(manifest);
                let preview: RolloutPreview = client.json(request).await?;
                if preview.deploys {
                    say(format_args!("    rollout: {}", preview.message))?;
                }
            }
            match (change.kind(), current) {
                (ChangeKind::None, Some(app)) if !is_well(app.status.phase) => {
                    unwell.push(Written::App(Box::new(app), Instant::now()));
                }
                (ChangeKind::None, _) => {}
                _ => changes.push((Wanted::App(manifest), change)),
            }
        }
        if self.dry_run || (changes.is_empty() && unwell.is_empty()) {
            return Ok(Outcome::Done);
        }
        say("")?;
        self.carry_out(&client, &changes, unwell).await
    }

    /// Writes in order, then waits for all at once, so that one that starts slowly holds up no
    /// other.
    async fn carry_out(
        &self,
        client: &Client,
        changes: &[(Wanted<'_>, Change)],
        unwell: Vec<Written>,
    ) -> anyhow::Result<Outcome> {
        let mut written = unwell;
        let mut refused = None;
        for (i, (wanted, change)) in changes.iter().enumerate() {
            match wanted.write(client, change.kind()).await {
                Ok(object) => written.push(object),
                Err(error) => {
                    refused = Some((&changes[i..], error));
                    break;
                }
            }
        }
        let mut worst = Outcome::Done;
        let limit = self.wait.limit();
        let ends = written.iter().map(async |object| match (object, limit) {
            (Written::Host(host), _) => report_host(host),
            (Written::Zone(zone), _) => report_zone(zone),
            (Written::Shard(shard, since), Some(limit)) => {
                follow_shard(client, shard, *since, limit).await
            }
            (Written::Shard(shard, _), None) => report_accepted_shard(shard),
            (Written::App(app, since), Some(limit)) => follow(client, app, *since, limit).await,
            (Written::App(app, _), None) => report_accepted(app),
        });
        for outcome in join_all(ends).await {
            worst = worst.max(outcome?);
        }
        let Some((rest, error)) = refused else { return Ok(worst) };
        let names: Vec<_> = rest.iter().map(|(wanted, _)| wanted.name()).collect();
        Err(anyhow::Error::from(error).context(format!("not applied: {}", names.join(", "))))
    }
}

impl Wanted<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Host(manifest) => &manifest.name,
            Self::Zone(manifest) => &manifest.name,
            Self::Shard(manifest) => &manifest.name,
            Self::App(manifest) => &manifest.name,
        }
    }

    async fn write(&self, client: &Client, kind: &ChangeKind) -> Result<Written, ClientError> {
        let since = Instant::now();
        match self {
            Self::Host(manifest) => {
                let host = write(client, "hosts", &manifest.name, manifest, kind).await?;
                Ok(Written::Host(Box::new(host)))
            }
            Self::Zone(manifest) => {
                let zone = write(client, "zones", &manifest.name, manifest, kind).await?;
                Ok(Written::Zone(Box::new(zone)))
            }
            Self::Shard(manifest) => {
                let shard = write(client, "shards", &manifest.name, manifest, kind).await?;
                Ok(Written::Shard(Box::new(shard), since))
            }
            Self::App(manifest) => {
                let app = write(client, "apps", &manifest.name, manifest, kind).await?;
                Ok(Written::App(Box::new(app), since))
            }
        }
    }
}

/// Whether its engine answers is told by `weir get hosts`: an apply does not wait for machines.
fn report_host(host: &HostResource) -> anyhow::Result<Outcome> {
    say(format_args!("Host/{}  written, {}", host.name, host.status.state))?;
    Ok(Outcome::Done)
}

/// A zone is served by the time that its change is answered.
fn report_zone(zone: &ZoneResource) -> anyhow::Result<Outcome> {
    say(format_args!("Zone/{}  {}", zone.name, super::zone::summary(zone)))?;
    Ok(if zone.status.phase == Phase::Failed { Outcome::Failed } else { Outcome::Done })
}

/// Only if the object is still as the plan saw it.
async fn write<T: DeserializeOwned>(
    client: &Client,
    kind: &str,
    name: &str,
    manifest: &impl Serialize,
    change: &ChangeKind,
) -> Result<T, ClientError> {
    let (condition, value) = match change {
        ChangeKind::Update { revision, .. } => etag(*revision),
        ChangeKind::Create { .. } | ChangeKind::None => (header::IF_NONE_MATCH, "*".to_owned()),
    };
    let request = client.request(Method::PUT, &[kind, name], &[]);
    client.json(request.header(condition, value).json(manifest)).await
}
