//! The endpoints that share a load.

use std::sync::Arc;

use weir_config::{Backends, Balance, Endpoint, Pool};

/// The pool of these endpoints. It is the served one if that is the same: a pool has a table that
/// takes time to make, and only a new one is a change.
pub(super) fn pool(
    served: Option<&Arc<Pool>>,
    endpoints: Vec<Endpoint>,
    balance: &Balance,
) -> Arc<Pool> {
    let is_same = |pool: &&Arc<Pool>| pool.endpoints() == endpoints && pool.balance() == balance;
    match served.filter(is_same) {
        Some(pool) => pool.clone(),
        None => Arc::new(Pool::new(endpoints, balance.clone())),
    }
}

/// Whether these are an app's instances.
pub(super) fn are_instances(backends: &Backends) -> bool {
    all(backends, |endpoint| endpoint.id.instance().is_some())
}

/// Whether these are an app's upstreams.
pub(super) fn are_upstreams(backends: &Backends) -> bool {
    all(backends, |endpoint| endpoint.id.instance().is_none())
}

fn all(backends: &Backends, is_such: impl Fn(&Endpoint) -> bool) -> bool {
    match backends {
        Backends::Own(pool) => pool.endpoints().iter().all(is_such),
        Backends::Shards(_) | Backends::Failover(_) => false,
    }
}
