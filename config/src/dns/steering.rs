//! Records that are chosen between when they are asked for, by who asks and by what the proxy knows
//! of health.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::RecordSet;
use crate::{
    AppName, Backends, Moment, Networks, Pool, RouteState, ShardName, Snapshot, hash::stable_hash,
};

/// What an answer is chosen from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steering {
    pub policy: Policy,
    /// In the order of preference.
    pub choices: Vec<Choice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The first that is healthy.
    Failover,
    /// Each its share of the clients. A client stays with its choice while the weights are the
    /// same, and goes over to a choice that gains weight, but between no others.
    Weighted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    pub records: RecordSet,
    /// Its share beside the others'; none for zero.
    pub weight: u16,
    /// For clients in these networks only; for all, if there are none.
    #[serde(default)]
    pub networks: Networks,
    pub health: Health,
}

/// What a choice has to be to be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Always,
    /// While requests for the app find somebody, if only after it has woken.
    App(AppName),
    /// While one of its members takes requests.
    Shard(ShardName),
}

impl Steering {
    /// The records for a client, who is known by his address or by a network that he is in; `None`
    /// if no choice is healthy, so that all are as good. Choices for the client's own network are
    /// preferred to those for all, and these to none.
    pub fn choose(&self, snapshot: &Snapshot, client: IpAddr, now: Moment) -> Option<&RecordSet> {
        let healthy = |choice: &&Choice| choice.health.holds(snapshot, now);
        let near = |choice: &&Choice| choice.networks.contain(client);
        let general = |choice: &&Choice| choice.networks.is_empty();
        let choices = || self.choices.iter();
        self.pick(client, || choices().filter(near).filter(healthy))
            .or_else(|| self.pick(client, || choices().filter(general).filter(healthy)))
    }

    fn pick<'c, I: Iterator<Item = &'c Choice>>(
        &self,
        client: IpAddr,
        choices: impl Fn() -> I,
    ) -> Option<&'c RecordSet> {
        let choice = match self.policy {
            Policy::Failover => choices().next(),
            Policy::Weighted => choices()
                .filter(|choice| choice.weight > 0)
                .max_by(|a, b| a.score(client).total_cmp(&b.score(client))),
        };
        choice.map(|choice| &choice.records)
    }
}

impl Choice {
    /// The highest wins (weighted rendezvous hashing): with another weight or another choice, only
    /// those clients go elsewhere who have to.
    fn score(&self, client: IpAddr) -> f64 {
        let client = match client.to_canonical() {
            IpAddr::V4(address) => address.octets()[..3].to_vec(),
            IpAddr::V6(address) => address.octets()[..7].to_vec(),
        };
        let hash = stable_hash(&[self.records.encoded(), &client]);
        // Within the open interval from 0 to 1, of which the logarithm is negative and finite.
        let random = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        f64::from(self.weight) / -random.ln()
    }
}

impl Health {
    fn holds(&self, snapshot: &Snapshot, now: Moment) -> bool {
        let takes_requests =
            |pool: &Arc<Pool>| pool.endpoints().iter().any(|endpoint| !endpoint.is_ejected(now));
        match self {
            Self::Always => true,
            Self::Shard(shard) => snapshot.shard(shard).is_some_and(takes_requests),
            Self::App(app) => snapshot.app(app).is_some_and(|route| match &route.state {
                RouteState::Serving(Backends::Own(pool)) => takes_requests(pool),
                RouteState::Serving(Backends::Shards(shards)) => {
                    shards.iter().filter_map(|shard| snapshot.shard(shard)).any(takes_requests)
                }
                RouteState::Asleep(_) | RouteState::Starting => true,
                RouteState::Unavailable { .. } => false,
            }),
        }
    }
}
