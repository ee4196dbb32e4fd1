//! A shard as an operator writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BalanceSpec, HealthSpec};

/// A document of kind `Shard`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShardManifest {
    /// Always `Shard`.
    pub kind: String,
    /// A DNS label of at most 40 characters, without `--`.
    pub name: String,
    pub spec: ShardSpec,
}

/// A ring of addresses that share the load of the apps which name it, or the hosts that such apps
/// are placed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShardSpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberSpec>,
    /// Labels of its hosts: those on which apps with `placement: {shard: NAME}` run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, String>,
    #[serde(default)]
    pub balance: BalanceSpec,
    /// How a member shows that it can take traffic.
    #[serde(default)]
    pub health: HealthSpec,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberSpec {
    /// Says which keys are its own, whatever its address; left out, it is the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `IP:PORT`.
    pub address: String,
    /// Its share beside the others', 1 to 1000.
    #[serde(default = "one")]
    pub weight: u16,
}

fn one() -> u16 {
    1
}
