//! Apps, and what runs of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Condition, FailureDetails, MemberStatus, Phase};

/// What the loop makes of the spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppStatus {
    pub phase: Phase,
    /// The generation of the spec that this status is about.
    pub observed_generation: u64,
    /// Where it is reached.
    pub url: String,
    /// Of an image: the number of the deployment that is on its way, or else live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u64>,
    /// The one that serves until that one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_deployment: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Of an app that is no image: its upstreams, or the members of its shards.
    pub ready_instances: u16,
    pub desired_instances: u16,
    pub requests_in_flight: u64,
    /// Its upstreams, if it has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<MemberStatus>,
    pub conditions: Vec<Condition>,
    /// Why it is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureDetails>,
}

/// One running copy of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceResource {
    /// `<app>-<deployment>-<ordinal>`.
    pub name: String,
    pub app: String,
    pub deployment: u64,
    pub ordinal: u16,
    pub host: String,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub requests_in_flight: u64,
    /// Times that the engine restarted it by itself.
    pub restarts: u64,
    /// What is being done to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Why a host name gets what it gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    pub hostname: String,
    /// What a request would get now.
    pub answer: String,
    /// From the name to the process, in order.
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// `route`, `app`, `deployment`, `instance` or `health`.
    pub subject: String,
    pub finding: String,
}

/// One line of an app's output, as newline-delimited JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogRecord {
    pub instance: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    pub text: String,
}

/// Sleep is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SleepRequest {
    /// How deep; `paused` when left out.
    #[serde(default)]
    pub level: Option<weir_config::SleepLevel>,
}
