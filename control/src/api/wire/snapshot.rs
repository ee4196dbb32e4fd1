//! What is served.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotResource {
    pub generation: u64,
    /// Of the store, that it was planned from.
    pub revision: u64,
    pub host_names: u64,
    /// Whose change is not served; they are served as before.
    pub refused: Vec<RefusalResource>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusalResource {
    /// As `App/shop`.
    pub subject: String,
    /// `broken`, `held` or `quarantined`.
    pub cause: String,
    pub message: String,
    /// For so long.
    pub seconds: u64,
}
