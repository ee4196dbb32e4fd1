//! `weir apply`: makes objects what files say.

use std::{path::PathBuf, time::Instant};

use clap::Args;
use futures::future::join_all;
use reqwest::{Method, header};
use serde::{Serialize, de::DeserializeOwned};
use weir_config::Manifest;
use weir_control::api::wire::{
    AppResource, FailoverResource, HiddenChanges, HostResource, IssuerResource, NotifierResource,
    Phase, ProviderPreview, ProviderResource, RolloutPreview, ShardResource, ZoneResource,
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

/// Create and change apps, shards, hosts, DNS zones, providers, failover policies, issuers and
/// notifiers as files say.
///
/// All files are checked first, and nothing is sent while there is a problem. Then it prints what
/// it will change, changes it, and waits for the result: `+` is a new object, `~` a changed one,
/// `=` one that is already as written. Hosts, shards, zones and failover policies come before apps.
/// What no file names is left alone; so is what is secret of an issuer or a notifier that is written
/// without it. An object that somebody else changes between the plan and the change is refused, not
/// overwritten.
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

/// An object whose end is waited for.
enum Written {
    Host(Box<HostResource>),
    Shard(Box<ShardResource>, Instant),
    App(Box<AppResource>, Instant),
    Issuer(Box<IssuerResource>),
    Notifier(Box<NotifierResource>),
    Zone(Box<ZoneResource>),
    Provider(Box<ProviderResource>),
    FailoverPolicy(Box<FailoverResource>),
}

impl Apply {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let Manifests { objects, problems, .. } = Manifests::read(&self.files);
        for problem in &problems {
            say_aside(problem)?;
        }
        if problems.is_empty() && objects.is_empty() {
            say_aside("error: there is no object in these files")?;
        }
        if !problems.is_empty() || objects.is_empty() {
            return Ok(Outcome::Invalid);
        }
        let client = self.connection.open()?;
        let mut changes = Vec::new();
        // As written already, but not running so: an apply that is repeated must not hide that.
        let mut unwell = Vec::new();
        for object in &objects {
            let (change, current) = compare(&client, object).await?;
            say(&change)?;
            preview(&client, object, &change).await?;
            match (change.kind(), current) {
                (ChangeKind::None, current) => {
                    unwell.extend(current.filter(|current| !current.is_well()));
                }
                _ => changes.push((object, change)),
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
        changes: &[(&Manifest, Change)],
        unwell: Vec<Written>,
    ) -> anyhow::Result<Outcome> {
        let mut written = unwell;
        let mut refused = None;
        for (i, (object, change)) in changes.iter().enumerate() {
            match write(client, object, change.kind()).await {
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
            (Written::Issuer(issuer), _) => report_issuer(issuer),
            (Written::Notifier(notifier), _) => report_notifier(notifier),
            (Written::Zone(zone), _) => report_zone(zone),
            (Written::Provider(provider), _) => report_provider(provider),
            (Written::FailoverPolicy(policy), _) => report_failover(policy),
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
        let names: Vec<_> = rest.iter().map(|(object, _)| object.name()).collect();
        Err(anyhow::Error::from(error).context(format!("not applied: {}", names.join(", "))))
    }
}

impl Written {
    /// Whether it serves as it should; what serves nobody does.
    fn is_well(&self) -> bool {
        match self {
            Self::Shard(shard, _) => is_well(shard.status.phase),
            Self::App(app, _) => is_well(app.status.phase),
            Self::Zone(zone) => is_well(zone.status.phase),
            Self::Host(_)
            | Self::Provider(_)
            | Self::FailoverPolicy(_)
            | Self::Issuer(_)
            | Self::Notifier(_) => true,
        }
    }
}

/// What writing an object would change, and how it is now, if it is there.
async fn compare(client: &Client, object: &Manifest) -> anyhow::Result<(Change, Option<Written>)> {
    let now = Instant::now();
    match object {
        Manifest::Host(host) => {
            let current = client.find(&["hosts", object.name()]).await?;
            let change = Change::of_host(current.as_ref(), &host.0);
            Ok((change, current.map(|host| Written::Host(Box::new(host)))))
        }
        Manifest::Shard(shard) => {
            let current = client.find(&["shards", object.name()]).await?;
            let change = Change::of_shard(current.as_ref(), &shard.0);
            Ok((change, current.map(|shard| Written::Shard(Box::new(shard), now))))
        }
        Manifest::Zone(zone) => {
            let current = client.find(&["zones", object.name()]).await?;
            let change = Change::of_zone(current.as_ref(), &zone.0);
            Ok((change, current.map(|zone| Written::Zone(Box::new(zone)))))
        }
        Manifest::Provider(provider) => {
            let current = client.find(&["providers", object.name()]).await?;
            // Only the server can tell, and whether it would take it.
            let path = ["providers", object.name(), "actions", "preview"];
            let request = client.request(Method::POST, &path, &[]).json(&provider.0);
            let is_other = client.json::<ProviderPreview>(request).await?.changes_secret;
            let change = Change::of_provider(current.as_ref(), &provider.0, is_other);
            Ok((change, current.map(|provider| Written::Provider(Box::new(provider)))))
        }
        Manifest::FailoverPolicy(policy) => {
            let current = client.find(&["failover-policies", object.name()]).await?;
            let change = Change::of_failover(current.as_ref(), &policy.0);
            Ok((change, current.map(|policy| Written::FailoverPolicy(Box::new(policy)))))
        }
        Manifest::App(app) => {
            let current = client.find(&["apps", object.name()]).await?;
            let change = Change::of_app(current.as_ref(), &app.0);
            Ok((change, current.map(|app| Written::App(Box::new(app), now))))
        }
        Manifest::Issuer(issuer) => {
            let current = client.find(&["issuers", object.name()]).await?;
            let hidden = hidden(client, "issuers", object.name(), &issuer.0).await?;
            let change = Change::of_issuer(current.as_ref(), &issuer.0, &hidden);
            Ok((change, current.map(|issuer| Written::Issuer(Box::new(issuer)))))
        }
        Manifest::Notifier(notifier) => {
            let current = client.find(&["notifiers", object.name()]).await?;
            let hidden = hidden(client, "notifiers", object.name(), &notifier.0).await?;
            let change = Change::of_notifier(current.as_ref(), &notifier.0, &hidden);
            Ok((change, current.map(|notifier| Written::Notifier(Box::new(notifier)))))
        }
    }
}

/// Which fields it would change of those that are not shown: only the server can tell, and whether
/// it would take it.
async fn hidden(
    client: &Client,
    kind: &str,
    name: &str,
    manifest: &impl Serialize,
) -> Result<Vec<String>, ClientError> {
    let request = client.request(Method::POST, &[kind, name, "actions", "preview"], &[]);
    Ok(client.json::<HiddenChanges>(request.json(manifest)).await?.changes)
}

/// Says how an app that is there would be rolled out.
async fn preview(client: &Client, object: &Manifest, change: &Change) -> anyhow::Result<()> {
    let (Manifest::App(app), ChangeKind::Update { .. }) = (object, change.kind()) else {
        return Ok(());
    };
    let path = ["apps", object.name(), "actions", "preview"];
    let request = client.request(Method::POST, &path, &[]).json(&app.0);
    let preview: RolloutPreview = client.json(request).await?;
    if preview.deploys {
        say(format_args!("    rollout: {}", preview.message))?;
    }
    Ok(())
}

/// Whether its engine answers is told by `weir get hosts`: an apply does not wait for machines.
fn report_host(host: &HostResource) -> anyhow::Result<Outcome> {
    say(format_args!("Host/{}  written, {}", host.name, host.status.state))?;
    Ok(Outcome::Done)
}

fn report_issuer(issuer: &IssuerResource) -> anyhow::Result<Outcome> {
    let name = &issuer.name;
    say(format_args!("Issuer/{name}  is asked for certificates; see: weir cert ls"))?;
    Ok(Outcome::Done)
}

fn report_notifier(notifier: &NotifierResource) -> anyhow::Result<Outcome> {
    let name = &notifier.name;
    say(format_args!("Notifier/{name}  is told; try it by: weir notifier test {name}"))?;
    Ok(Outcome::Done)
}

fn report_provider(provider: &ProviderResource) -> anyhow::Result<Outcome> {
    let name = &provider.name;
    say(format_args!("Provider/{name}  written; try it by: weir provider test {name}"))?;
    Ok(Outcome::Done)
}

fn report_failover(policy: &FailoverResource) -> anyhow::Result<Outcome> {
    let name = &policy.name;
    say(format_args!("FailoverPolicy/{name}  written; see it by: weir failover show {name}"))?;
    Ok(Outcome::Done)
}

/// A zone is served by the time that its change is answered.
fn report_zone(zone: &ZoneResource) -> anyhow::Result<Outcome> {
    say(format_args!("Zone/{}  {}", zone.name, super::zone::summary(zone)))?;
    Ok(if zone.status.phase == Phase::Failed { Outcome::Failed } else { Outcome::Done })
}

async fn write(
    client: &Client,
    object: &Manifest,
    kind: &ChangeKind,
) -> Result<Written, ClientError> {
    let (name, now) = (object.name(), Instant::now());
    Ok(match object {
        Manifest::Host(host) => {
            Written::Host(Box::new(put(client, ["hosts", name], &host.0, kind).await?))
        }
        Manifest::Shard(shard) => {
            Written::Shard(Box::new(put(client, ["shards", name], &shard.0, kind).await?), now)
        }
        Manifest::Zone(zone) => {
            Written::Zone(Box::new(put(client, ["zones", name], &zone.0, kind).await?))
        }
        Manifest::Provider(provider) => {
            let written = put(client, ["providers", name], &provider.0, kind).await?;
            Written::Provider(Box::new(written))
        }
        Manifest::FailoverPolicy(policy) => {
            let written = put(client, ["failover-policies", name], &policy.0, kind).await?;
            Written::FailoverPolicy(Box::new(written))
        }
        Manifest::App(app) => {
            Written::App(Box::new(put(client, ["apps", name], &app.0, kind).await?), now)
        }
        Manifest::Issuer(issuer) => {
            Written::Issuer(Box::new(put(client, ["issuers", name], &issuer.0, kind).await?))
        }
        Manifest::Notifier(notifier) => {
            let written = put(client, ["notifiers", name], &notifier.0, kind).await?;
            Written::Notifier(Box::new(written))
        }
    })
}

/// Only if the object is still as the plan saw it.
async fn put<T: DeserializeOwned>(
    client: &Client,
    path: [&str; 2],
    manifest: &impl Serialize,
    change: &ChangeKind,
) -> Result<T, ClientError> {
    let (condition, value) = match change {
        ChangeKind::Update { revision, .. } => etag(*revision),
        ChangeKind::Create { .. } | ChangeKind::None => (header::IF_NONE_MATCH, "*".to_owned()),
    };
    let request = client.request(Method::PUT, &path, &[]);
    client.json(request.header(condition, value).json(manifest)).await
}
