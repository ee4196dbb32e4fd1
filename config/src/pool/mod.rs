//! What a request chooses its endpoint from.

mod choice;
mod key;
mod maglev;
mod ring;
mod table;
#[cfg(test)]
mod tests;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use self::table::Table;
pub use self::{choice::Choice, key::HashKey};

use crate::{EndpointActivity, EndpointId, FailoverName, HashAlgorithm, Moment, Reach, ShardName};

/// Endpoints that share a load, with the table that says whose a key is.
#[derive(Clone)]
pub struct Pool {
    endpoints: Vec<Endpoint>,
    balance: Balance,
    /// Of each endpoint, its weight and that of those before it; empty if all weigh the same.
    weights: Box<[u64]>,
    /// There if keys are hashed and there is more than one to own them.
    table: Option<Table>,
}

impl PartialEq for Pool {
    /// The rest is made from these.
    fn eq(&self, other: &Self) -> bool {
        (&self.endpoints, &self.balance) == (&other.endpoints, &other.balance)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("endpoints", &self.endpoints)
            .field("balance", &self.balance)
            .finish_non_exhaustive()
    }
}

/// An instance or a member that takes requests.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub id: EndpointId,
    pub address: SocketAddr,
    pub reach: Reach,
    /// Its share beside the others'.
    pub weight: u16,
    /// Since when it has been ready; slow start counts from then.
    pub ready_since: Moment,
    /// Where the proxy counts; control reads the same entry.
    pub activity: Arc<EndpointActivity>,
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        let told = |endpoint: &Self| (endpoint.address, endpoint.reach, endpoint.weight);
        self.id == other.id && told(self) == told(other) && self.ready_since == other.ready_since
    }
}

/// How endpoints share a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// `None`: the less loaded of two taken at random.
    pub hash: Option<HashKey>,
    pub algorithm: HashAlgorithm,
    /// How many times the mean load an endpoint may carry before the next one takes its requests.
    pub max_load: f64,
    /// Zero for none.
    pub slow_start: Duration,
}

/// Where an app's requests go while it serves.
#[derive(Clone, Debug, PartialEq)]
pub enum Backends {
    /// Its own instances or upstreams.
    Own(Arc<Pool>),
    /// Shards of the snapshot, one of them by a hash of the host name.
    Shards(Arc<[ShardName]>),
    /// The targets of a policy of the snapshot, one of them by the client's address.
    Failover(FailoverName),
}

impl Pool {
    pub fn new(endpoints: Vec<Endpoint>, balance: Balance) -> Self {
        let hashes = balance.hash.is_some() && endpoints.len() > 1;
        let table = hashes.then(|| Table::new(&endpoints, balance.algorithm));
        Self { weights: cumulative_weights(&endpoints), endpoints, balance, table }
    }

    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub fn balance(&self) -> &Balance {
        &self.balance
    }
}

fn cumulative_weights(endpoints: &[Endpoint]) -> Box<[u64]> {
    if endpoints.windows(2).all(|pair| pair[0].weight == pair[1].weight) {
        return Box::default();
    }
    let sum = |sum: &mut u64, endpoint: &Endpoint| {
        *sum += u64::from(endpoint.weight.max(1));
        Some(*sum)
    };
    endpoints.iter().scan(0, sum).collect()
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            hash: None,
            algorithm: HashAlgorithm::default(),
            max_load: 1.25,
            slow_start: Duration::ZERO,
        }
    }
}
