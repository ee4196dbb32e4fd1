//! Failover policies.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Phase;

/// How the names of a policy are served, in a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailoverStatus {
    /// `progressing` until the policy is carried out, then `ready`.
    pub phase: Phase,
    /// The generation of the spec that this status is about; 0 as long as it is about none.
    pub observed_generation: u64,
}
