//! What should run: the desired state that the loop converges to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    App, AppName, Host, HostName, PortMapping, Resources, RestartPolicy, SecretName, Shard,
    ShardName, Volume,
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
}

/// One immutable, numbered roll-out of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Counts from 1 within the app and never repeats, also after the app was deleted.
    pub number: u64,
    pub template: Arc<Template>,
}

/// An app, with the deployment that should be live if it is an image.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredApp {
    pub app: App,
    /// Grows by one with every change of the spec.
    pub generation: u64,
    pub deployment: Option<Deployment>,
}

/// Everything as meant, at one revision of the store. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    pub revision: u64,
    pub apps: imbl::OrdMap<AppName, Arc<DesiredApp>>,
    pub shards: imbl::OrdMap<ShardName, Arc<Shard>>,
    /// The machine that Weir runs on is always one of them.
    pub hosts: imbl::OrdMap<HostName, Arc<Host>>,
    /// Apps whose specs cannot be read, as after a step back to an older Weir. What runs of them is
    /// left alone: to be unreadable is not to be deleted.
    pub unreadable: BTreeSet<AppName>,
    /// The same of shards.
    pub unreadable_shards: BTreeSet<ShardName>,
    /// The same of hosts.
    pub unreadable_hosts: BTreeSet<HostName>,
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
            unreadable: BTreeSet::new(),
            unreadable_shards: BTreeSet::new(),
            unreadable_hosts: BTreeSet::new(),
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
}
