//! Records that are chosen between when they are asked for, by who asks and by what the proxy knows
//! of health.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::RecordSet;
use crate::{
    AppName, Backends, Moment, Networks, Pool, RouteState, ShardName, Snapshot, failover::target_of,
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
    /// Each its share of the clients, as [`Buckets`](crate::Buckets) have it. A client stays with its
    /// choice while the weights are the same, and goes over to a choice that gains weight, but
    /// between no others.
    Weighted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Says which clients are its own, so that sets of the same names and weights agree on everyone.
    pub name: Box<str>,
    /// None where there are records of other types: the CNAME of one choice stands beside the
    /// addresses of another.
    pub records: Option<RecordSet>,
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

/// What a client is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen<'s> {
    Records(&'s RecordSet),
    /// What was chosen has records of other types only.
    OtherTypes,
    /// Nobody has a share.
    Nothing,
    /// All that there is, because nothing is healthy, so that all are as good.
    Everything,
}

impl Steering {
    /// The choice for a client, who is known by his address or by a network that he is in. Choices
    /// for the client's own network are preferred to those for all.
    pub fn choose(&self, snapshot: &Snapshot, client: IpAddr, now: Moment) -> Chosen<'_> {
        let healthy = |choice: &&Choice| choice.health.holds(snapshot, now);
        let near = |choice: &&Choice| choice.networks.contain(client);
        let general = |choice: &&Choice| choice.networks.is_empty();
        let choices = || self.choices.iter();
        self.pick(client, || choices().filter(near).filter(healthy))
            .or_else(|| self.pick(client, || choices().filter(general).filter(healthy)))
            .unwrap_or(Chosen::Everything)
    }

    /// The choice that most clients are given.
    pub fn main(&self) -> Option<&Choice> {
        let most = self.choices.iter().map(|choice| choice.weight).max()?;
        self.choices.iter().find(|choice| choice.weight == most)
    }

    /// `None` if there are no such choices.
    fn pick<'c, I: Iterator<Item = &'c Choice>>(
        &self,
        client: IpAddr,
        choices: impl Fn() -> I,
    ) -> Option<Chosen<'c>> {
        let first = choices().next()?;
        let choice = match self.policy {
            Policy::Failover => Some(first),
            Policy::Weighted => {
                let bids = choices().map(|choice| (choice.name.as_bytes(), &choice.weight));
                target_of(client, bids).and_then(|place| choices().nth(place))
            }
        };
        Some(choice.map_or(Chosen::Nothing, |choice| match &choice.records {
            Some(records) => Chosen::Records(records),
            None => Chosen::OtherTypes,
        }))
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
                RouteState::Serving(Backends::Failover(policy)) => snapshot
                    .policy(policy)
                    .is_some_and(|steered| !steered.steering.shares.is_nobody()),
                RouteState::Asleep(_) | RouteState::Starting => true,
                RouteState::Unavailable { .. } => false,
            }),
        }
    }
}
