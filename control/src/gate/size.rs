//! How much is served.

use std::{
    ops::{Add, Sub},
    slice::Iter,
};

use weir_config::{Backends, Pool, RouteState, Snapshot, SteeredTarget};

use crate::subject::Subject;

/// More than anybody has of one Weir; less than what a machine of a few gigabytes holds.
const MOST_NAMES: u64 = 1_000_000;
const MOST_ENDPOINTS: u64 = 1_000_000;
const MOST_BYTES: u64 = 2 << 30;
/// Of one pool: its table grows with them.
pub(super) const MOST_IN_POOL: usize = 10_000;

/// About what an entry of each sort takes, its share of the maps included.
const ROUTE_BYTES: u64 = 700;
const NAME_BYTES: u64 = 160;
const ENDPOINT_BYTES: u64 = 300;
const RECORD_BYTES: u64 = 300;
/// Of a failover policy, whatever its targets are.
const BUCKETS_BYTES: u64 = 20_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) names: u64,
    pub(super) endpoints: u64,
    pub(super) records: u64,
    bytes: u64,
}

impl Size {
    pub(super) fn of_all(snapshot: &Snapshot) -> Self {
        let apps = snapshot.apps().map(|route| Subject::App(route.app.clone()));
        let shards = snapshot.shards().map(|(name, _)| Subject::Shard(name.clone()));
        let zones = snapshot.zones().filter_map(|zone| zone.name().to_string().parse().ok());
        let zones = zones.map(Subject::Zone);
        let policies = snapshot.policies().map(|steered| Subject::Policy(steered.policy.clone()));
        let all = apps.chain(shards).chain(policies).chain(zones);
        all.fold(Self::default(), |sum, s| sum + Self::of(snapshot, &s))
    }

    /// What one subject has in a snapshot.
    pub(super) fn of(snapshot: &Snapshot, subject: &Subject) -> Self {
        match subject {
            Subject::Shard(name) => snapshot.shard(name).map_or_else(Self::default, Self::of_pool),
            Subject::Policy(name) => {
                let targets = snapshot.policy(name).map(|steered| steered.targets.iter());
                let buckets = Self { bytes: BUCKETS_BYTES, ..Self::default() };
                let sum = |targets: Iter<'_, SteeredTarget>| {
                    targets.fold(buckets, |sum, target| sum + Self::of_pool(&target.pool))
                };
                targets.map_or_else(Self::default, sum)
            }
            Subject::Zone(name) => {
                let records = snapshot.zone(name.dns()).map_or(0, |zone| zone.len() as u64);
                Self { records, bytes: records * RECORD_BYTES, ..Self::default() }
            }
            Subject::App(name) => {
                let Some(route) = snapshot.app(name) else { return Self::default() };
                let text = |length: usize| length as u64;
                let names = route.hostnames.iter().map(|n| text(n.host.len() + n.path().len()));
                let own = Self {
                    names: route.hostnames.len() as u64,
                    bytes: ROUTE_BYTES + names.map(|length| NAME_BYTES + 2 * length).sum::<u64>(),
                    ..Self::default()
                };
                own + match &route.state {
                    RouteState::Serving(Backends::Own(pool)) => Self::of_pool(pool),
                    RouteState::Unavailable { reason, .. } => {
                        Self { bytes: text(reason.len()), ..Self::default() }
                    }
                    _ => Self::default(),
                }
            }
        }
    }

    fn of_pool(pool: &std::sync::Arc<Pool>) -> Self {
        let endpoints = pool.endpoints().len() as u64;
        Self { endpoints, bytes: endpoints * ENDPOINT_BYTES, ..Self::default() }
    }

    pub(super) fn too_much(&self) -> Option<String> {
        let Self { names, endpoints, bytes, records: _ } = self;
        let (what, limit) = if *names > MOST_NAMES {
            ("host names", MOST_NAMES)
        } else if *endpoints > MOST_ENDPOINTS {
            ("endpoints", MOST_ENDPOINTS)
        } else if *bytes > MOST_BYTES {
            ("bytes", MOST_BYTES)
        } else {
            return None;
        };
        Some(format!("with it, what is served would have more than {limit} {what}"))
    }

    pub(super) fn exceeds(&self, former: Self) -> bool {
        self.names > former.names || self.endpoints > former.endpoints || self.bytes > former.bytes
    }
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            names: self.names + other.names,
            endpoints: self.endpoints + other.endpoints,
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            names: self.names.saturating_sub(other.names),
            endpoints: self.endpoints.saturating_sub(other.endpoints),
            records: self.records.saturating_sub(other.records),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}
