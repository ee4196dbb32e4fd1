//! Hosts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a host is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostStatus {
    /// `unknown`, `ready`, `suspect`, `disconnected`, `lost` or `returned`.
    pub state: String,
    /// Why its engine does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Where its instances are reached; none of `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u64>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    pub instances: u64,
}

/// What to bring to where it would be placed anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvergeRequest {
    /// Only tell.
    #[serde(default)]
    pub dry_run: bool,
}

/// An instance that is on another host than it would be placed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftResource {
    pub app: String,
    pub instance: String,
    /// Where it is.
    pub host: String,
}
