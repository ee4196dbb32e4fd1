//! Shards.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MemberStatus, Phase};

/// How the members of a shard are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShardStatus {
    /// `progressing`, `ready`, `degraded` or `failed`.
    pub phase: Phase,
    /// The generation of the spec that this status is about; 0 as long as it is about none.
    pub observed_generation: u64,
    pub ready_members: u16,
    pub members: Vec<MemberStatus>,
}

/// What to deploy to every app that is placed on a shard's hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShardDeployRequest {
    pub image: String,
    /// So many are on their way at once; 1 when left out.
    #[serde(default = "one")]
    pub parallel: u32,
    /// The part of them that may fail, in percent; 0, so that it stops at the first, when left out.
    #[serde(default)]
    pub max_failed_percent: u8,
}

fn one() -> u32 {
    1
}
