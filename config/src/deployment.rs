//! What should run: the desired state that the loop converges to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    App, AppName, DesiredZone, FailoverName, FailoverPolicy, Host, HostName, HostPath, Moment,
    PortMapping, Resources, RestartPolicy, SecretName, Shard, ShardName, Source, Volume, ZoneName,
};

/// The part of an app that a container is made from. Two equal templates make equal containers; a
/// different one makes a new deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Template {
    pub image: String,
    pub port: u16,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Which value of each secret is in its environment: the store's revision that wrote it. Another
    /// value is another template, and the values themselves are nowhere near.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, u64>,
    pub volumes: Vec<Volume>,
    pub ports: Vec<PortMapping>,
    pub resources: Resources,
    pub restart: RestartPolicy,
    /// Whose private names its containers know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<AppName>,
}

impl Template {
    /// What containers of both templates cannot have at once, if there is anything.
    pub fn contends_with(&self, other: &Self) -> Option<Contention> {
        let taken = |port: &&PortMapping| {
            other.ports.iter().any(|taken| (taken.host, taken.udp) == (port.host, port.udp))
        };
        if let Some(port) = self.ports.iter().find(taken) {
            return Some(Contention::Port(port.host));
        }
        let written = |volume: &&Volume| {
            let is_same = |other: &&Volume| other.source == volume.source;
            let other = other.volumes.iter().find(is_same);
            other.is_some_and(|other| !(volume.read_only && other.read_only))
        };
        let volume = self.volumes.iter().find(written)?;
        Some(Contention::Volume(volume.source.clone()))
    }
}

/// Why a deployment starts only when the former one has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contention {
    /// A published port can be held by one running container at a time.
    Port(u16),
    /// Two versions of an app must not write to one volume.
    Volume(String),
}

impl fmt::Display for Contention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "both publish port {port}"),
            Self::Volume(source) => write!(f, "both write to the volume `{source}`"),
        }
    }
}

/// One immutable, numbered roll-out of an app, and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Counts from 1 within the app and never repeats, also after the app was deleted.
    pub number: u64,
    pub template: Arc<Template>,
    pub state: DeploymentState,
    /// Within [`DeploymentState::Shifting`]: how much of the requests it has. Of a rolling one, how
    /// many further instances after the first; of a canary, which of its steps.
    pub step: u16,
    /// Since when it is in this state and step.
    pub since: Moment,
    pub cause: Cause,
    /// Until when its instances are kept for a rollback, though it is not live.
    pub kept_until: Option<Moment>,
    /// Why it did not become live, or why it is being rolled back.
    pub ending: Option<Arc<Ending>>,
}

/// How far a deployment is: from the first to `Live` in this order, but some may be skipped.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentState {
    /// Wanted, nothing done yet.
    Pending,
    /// Its image is fetched and its containers are made.
    Preparing,
    Starting,
    /// Its instances run, and are probed.
    Verifying,
    /// Requests go over to it.
    Shifting,
    /// All requests go to it; the last ones on the former instances end.
    Draining,
    Live,
    /// It was live until another was.
    Superseded,
    /// It did not become ready. Like the next two, it is only started again on request.
    Failed,
    /// An operator, or a newer one, called it off before it was live.
    Cancelled,
    /// Requests went back to the former one.
    RolledBack,
}

impl DeploymentState {
    const ALL: [(Self, &str); 11] = [
        (Self::Pending, "pending"),
        (Self::Preparing, "preparing"),
        (Self::Starting, "starting"),
        (Self::Verifying, "verifying"),
        (Self::Shifting, "shifting"),
        (Self::Draining, "draining"),
        (Self::Live, "live"),
        (Self::Superseded, "superseded"),
        (Self::Failed, "failed"),
        (Self::Cancelled, "cancelled"),
        (Self::RolledBack, "rolled-back"),
    ];

    /// Whether it is on its way to be live.
    pub fn is_under_way(self) -> bool {
        self < Self::Live
    }

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }
}

impl FromStr for DeploymentState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, word)| *word == text);
        found.map(|(state, _)| *state).ok_or_else(|| format!("`{text}` is no deployment's state"))
    }
}

/// What a deployment was made, or brought back, for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The spec changed.
    #[default]
    Apply,
    /// Another image, or the same one anew, was asked for.
    Deploy,
    /// The exact image of another app was asked for.
    Promote,
    Rollback,
}

impl Cause {
    const ALL: [(Self, &str); 4] = [
        (Self::Apply, "apply"),
        (Self::Deploy, "deploy"),
        (Self::Promote, "promote"),
        (Self::Rollback, "rollback"),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(cause, _)| *cause == self).map_or("", |(_, word)| word)
    }
}

impl FromStr for Cause {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, word)| *word == text);
        found.map(|(cause, _)| *cause).ok_or_else(|| format!("`{text}` is no deployment's cause"))
    }
}

/// Why a deployment is not live, or not for long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Ending {
    /// A stable word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Whose failure it was, if it was one instance's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The last lines that its process wrote.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
}

/// An app, with its deployments that still matter.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredApp {
    pub app: App,
    /// Host names that it is not served at, because their owner has yet to say that it may have them.
    pub unverified: Vec<HostPath>,
    /// Grows by one with every change of the spec.
    pub generation: u64,
    /// The newest one, the one on its way, the live one and those that are kept for a rollback; the
    /// newest first. None of an app that is no image.
    pub deployments: Vec<Deployment>,
}

impl DesiredApp {
    /// Whether containers answer its requests.
    pub fn is_image(&self) -> bool {
        matches!(self.app.source, Source::Image(_))
    }

    /// The one that the loop brings up, or keeps up: the one on its way, else the live one.
    pub fn target(&self) -> Option<&Deployment> {
        let under_way = self.deployments.iter().find(|d| d.state.is_under_way());
        under_way.or_else(|| self.live())
    }

    /// The one that serves, for as long as none on its way has taken over.
    pub fn live(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.state == DeploymentState::Live)
    }

    /// The one of the spec as it is now.
    pub fn newest(&self) -> Option<&Deployment> {
        self.deployments.first()
    }

    pub fn deployment(&self, number: u64) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.number == number)
    }
}

/// Everything as meant, at one revision of the store. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    pub revision: u64,
    pub apps: imbl::OrdMap<AppName, Arc<DesiredApp>>,
    pub shards: imbl::OrdMap<ShardName, Arc<Shard>>,
    /// The machine that Weir runs on is always one of them.
    pub hosts: imbl::OrdMap<HostName, Arc<Host>>,
    pub zones: imbl::OrdMap<ZoneName, Arc<DesiredZone>>,
    pub policies: imbl::OrdMap<FailoverName, Arc<FailoverPolicy>>,
    /// Apps whose specs cannot be read, as after a step back to an older Weir. What runs of them is
    /// left alone: to be unreadable is not to be deleted.
    pub unreadable: BTreeSet<AppName>,
    /// The same of shards.
    pub unreadable_shards: BTreeSet<ShardName>,
    /// The same of hosts.
    pub unreadable_hosts: BTreeSet<HostName>,
    /// The same of zones.
    pub unreadable_zones: BTreeSet<ZoneName>,
    /// The same of failover policies.
    pub unreadable_policies: BTreeSet<FailoverName>,
}

impl Default for Desired {
    /// Nothing, on the machine that Weir runs on.
    fn default() -> Self {
        let local = Host::local();
        Self {
            revision: 0,
            apps: imbl::OrdMap::new(),
            shards: imbl::OrdMap::new(),
            hosts: [(local.name.clone(), Arc::new(local))].into_iter().collect(),
            zones: imbl::OrdMap::new(),
            policies: imbl::OrdMap::new(),
            unreadable: BTreeSet::new(),
            unreadable_shards: BTreeSet::new(),
            unreadable_hosts: BTreeSet::new(),
            unreadable_zones: BTreeSet::new(),
            unreadable_policies: BTreeSet::new(),
        }
    }
}

impl Desired {
    /// Whether an app that is there should not be.
    pub fn has_gone(&self, app: &AppName) -> bool {
        !self.apps.contains_key(app) && !self.unreadable.contains(app)
    }

    /// Whether a shard that is there should not be.
    pub fn has_gone_shard(&self, shard: &ShardName) -> bool {
        !self.shards.contains_key(shard) && !self.unreadable_shards.contains(shard)
    }

    /// Whether a zone that is there should not be.
    pub fn has_gone_zone(&self, zone: &ZoneName) -> bool {
        !self.zones.contains_key(zone) && !self.unreadable_zones.contains(zone)
    }

    /// Whether a failover policy that is there should not be.
    pub fn has_gone_policy(&self, policy: &FailoverName) -> bool {
        !self.policies.contains_key(policy) && !self.unreadable_policies.contains(policy)
    }
}
