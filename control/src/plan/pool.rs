//! The endpoints that share a load.

use std::sync::Arc;

use weir_config::{Balance, Endpoint, Pool};

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
