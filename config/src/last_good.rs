//! The served snapshot as it is kept on disk, for a restart that serves before anything outside
//! has answered.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    Activity, AppName, AppRoute, Backends, Balance, Endpoint, EndpointId, FailoverName, HostPath,
    Moment, Pool, Reach, RouteState, ShardName, SleepLevel, Snapshot, Steered, SteeredTarget,
    Steering, TargetName, TargetPlace, TrafficPolicy, hash::stable_hash,
};

/// A [`Snapshot`] without its counters, and without its certificates and its zones, which are kept
/// apart.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastGood {
    /// The boot of the machine that it was served in: after another one, instances have other
    /// addresses, and theirs may be another app's.
    boot: String,
    generation: u64,
    revision: u64,
    shards: BTreeMap<ShardName, SavedPool>,
    #[serde(default)]
    policies: Vec<SavedSteered>,
    apps: Vec<SavedRoute>,
    #[serde(default)]
    http_challenges: BTreeMap<Arc<str>, Arc<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedRoute {
    app: AppName,
    hostnames: Vec<HostPath>,
    state: SavedState,
    policy: Arc<TrafficPolicy>,
    wake_timeout: Duration,
    queue: u32,
}

#[derive(Debug, Serialize, Deserialize)]
enum SavedState {
    Serving(SavedPool),
    Shards(Arc<[ShardName]>),
    Failover(FailoverName),
    Asleep(SleepLevel),
    Starting,
    Unavailable { reason: String, retry_after: Duration },
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedSteered {
    policy: FailoverName,
    targets: Vec<SavedTarget>,
    steering: Steering,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedTarget {
    name: TargetName,
    place: TargetPlace,
    pool: SavedPool,
    is_down: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedPool {
    balance: Balance,
    endpoints: Vec<SavedEndpoint>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedEndpoint {
    id: EndpointId,
    address: SocketAddr,
    weight: u16,
    #[serde(default)]
    reach: Reach,
}

impl LastGood {
    pub fn of(snapshot: &Snapshot, boot: &str) -> Self {
        Self {
            boot: boot.to_owned(),
            generation: snapshot.generation,
            revision: snapshot.revision,
            shards: snapshot
                .shards()
                .map(|(name, pool)| (name.clone(), SavedPool::of(pool)))
                .collect(),
            policies: snapshot.policies().map(|steered| SavedSteered::of(steered)).collect(),
            apps: snapshot.apps().map(|route| SavedRoute::of(route)).collect(),
            http_challenges: snapshot.http_challenges.clone().into_iter().collect(),
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The snapshot, with its counters joined to `activity` and without certificates. In another boot than `boot`, an app
    /// whose instances were serving is starting: its requests wait until they have been found.
    pub fn restore(self, activity: &Activity, boot: &str) -> Snapshot {
        let same_boot = self.boot == boot;
        let mut snapshot = Snapshot::empty(self.generation, self.revision, Arc::default());
        for (name, pool) in self.shards {
            snapshot.insert_shard(name, pool.restore(activity));
        }
        for saved in self.policies {
            snapshot.insert_policy(Arc::new(saved.restore(activity)));
        }
        for saved in self.apps {
            let moved = !same_boot && saved.state.has_instances();
            let mut route = saved.restore(activity);
            if moved {
                route.state = RouteState::Starting;
            }
            snapshot.insert(route);
        }
        snapshot.http_challenges = self.http_challenges.into_iter().collect();
        snapshot
    }
}

impl AppRoute {
    /// Tells one way of serving an app from another, over restarts: all that its operator decides,
    /// upstreams and shards among it, and nothing of what runs of it, which comes and goes.
    pub fn fingerprint(&self) -> u64 {
        let Self { app, hostnames, policy, wake_timeout, queue, .. } = self;
        let state = SavedState::as_written(&self.state);
        fingerprint(&(app, hostnames, policy, wake_timeout, queue, state))
    }
}

impl Pool {
    /// As [`AppRoute::fingerprint`], of a shard.
    pub fn fingerprint(&self) -> u64 {
        let mut saved = SavedPool::of(self);
        saved.forget_addresses();
        fingerprint(&saved)
    }
}

fn fingerprint(saved: &impl Serialize) -> u64 {
    // What is written to disk every few seconds can be written.
    let bytes = serde_json::to_vec(saved).unwrap_or_default();
    stable_hash(&[&bytes])
}

impl SavedRoute {
    fn of(route: &AppRoute) -> Self {
        Self {
            app: route.app.clone(),
            hostnames: route.hostnames.clone(),
            state: SavedState::of(&route.state),
            policy: route.policy.clone(),
            wake_timeout: route.wake_timeout,
            queue: route.queue,
        }
    }

    fn restore(self, activity: &Activity) -> AppRoute {
        AppRoute {
            activity: activity.app(&self.app),
            app: self.app,
            hostnames: self.hostnames,
            state: self.state.restore(activity),
            policy: self.policy,
            wake_timeout: self.wake_timeout,
            queue: self.queue,
        }
    }
}

impl SavedState {
    fn of(state: &RouteState) -> Self {
        match state {
            RouteState::Serving(Backends::Own(pool)) => Self::Serving(SavedPool::of(pool)),
            RouteState::Serving(Backends::Shards(shards)) => Self::Shards(shards.clone()),
            RouteState::Serving(Backends::Failover(policy)) => Self::Failover(policy.clone()),
            RouteState::Asleep(level) => Self::Asleep(*level),
            RouteState::Starting => Self::Starting,
            RouteState::Unavailable { reason, retry_after } => {
                Self::Unavailable { reason: reason.clone(), retry_after: *retry_after }
            }
        }
    }

    fn restore(self, activity: &Activity) -> RouteState {
        match self {
            Self::Serving(pool) => RouteState::Serving(Backends::Own(pool.restore(activity))),
            Self::Shards(shards) => RouteState::Serving(Backends::Shards(shards)),
            Self::Failover(policy) => RouteState::Serving(Backends::Failover(policy)),
            Self::Asleep(level) => RouteState::Asleep(level),
            Self::Starting => RouteState::Starting,
            Self::Unavailable { reason, retry_after } => {
                RouteState::Unavailable { reason, retry_after }
            }
        }
    }

    fn has_instances(&self) -> bool {
        let is_instance = |endpoint: &SavedEndpoint| endpoint.id.instance().is_some();
        matches!(self, Self::Serving(pool) if pool.endpoints.iter().any(is_instance))
    }

    /// What an operator has written of it, and nothing of where that is found.
    fn as_written(state: &RouteState) -> Option<Self> {
        match Self::of(state) {
            state if state.has_instances() => None,
            Self::Serving(mut pool) => {
                pool.forget_addresses();
                Some(Self::Serving(pool))
            }
            written @ (Self::Shards(_) | Self::Failover(_)) => Some(written),
            Self::Asleep(_) | Self::Starting | Self::Unavailable { .. } => None,
        }
    }
}

impl SavedSteered {
    fn of(steered: &Steered) -> Self {
        let target = |target: &SteeredTarget| SavedTarget {
            name: target.name.clone(),
            place: target.place.clone(),
            pool: SavedPool::of(&target.pool),
            is_down: target.is_down,
        };
        Self {
            policy: steered.policy.clone(),
            targets: steered.targets.iter().map(target).collect(),
            steering: steered.steering,
        }
    }

    fn restore(self, activity: &Activity) -> Steered {
        let target = |saved: SavedTarget| SteeredTarget {
            name: saved.name,
            place: saved.place,
            pool: saved.pool.restore(activity),
            is_down: saved.is_down,
        };
        let targets = self.targets.into_iter().map(target).collect();
        Steered::new(self.policy, targets, self.steering)
    }
}

impl SavedPool {
    fn of(pool: &Pool) -> Self {
        let endpoint = |e: &Endpoint| SavedEndpoint {
            id: e.id.clone(),
            address: e.address,
            weight: e.weight,
            reach: e.reach,
        };
        Self {
            balance: pool.balance().clone(),
            endpoints: pool.endpoints().iter().map(endpoint).collect(),
        }
    }

    fn forget_addresses(&mut self) {
        let none = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        self.endpoints.iter_mut().for_each(|endpoint| endpoint.address = none);
    }

    fn restore(self, activity: &Activity) -> Arc<Pool> {
        let endpoint = |saved: SavedEndpoint| Endpoint {
            activity: activity.endpoint(&saved.id),
            id: saved.id,
            address: saved.address,
            reach: saved.reach,
            weight: saved.weight,
            // It has been ready for long: nothing is known of a slow start.
            ready_since: Moment::default(),
        };
        let endpoints = self.endpoints.into_iter().map(endpoint).collect();
        Arc::new(Pool::new(endpoints, self.balance))
    }
}
