//! Deployments, and what can be asked for about them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_config::{Cause, DeploymentState, Ending};

/// A new deployment is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The image to run from now on; the spec's when left out.
    #[serde(default)]
    pub image: Option<String>,
}

/// One immutable, numbered roll-out of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentResource {
    /// Counts from 1 within the app.
    pub number: u64,
    pub state: DeploymentState,
    /// While requests go over to it: of a rolling one, the instances that it has beyond the first;
    /// of a canary, which of its steps.
    pub step: u16,
    pub cause: Cause,
    pub image: String,
    /// RFC 3339, as the next two.
    pub created_at: String,
    /// Since when it is in this state and step.
    pub since: String,
    /// Until when its instances are kept for a rollback within a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
    /// Why it is not live, or not for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// How a spec would be rolled out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutPreview {
    /// Whether it makes a new deployment.
    pub deploys: bool,
    /// `none`, `first`, `blue-green`, `rolling`, `canary` or `stop-first`.
    pub way: String,
    /// Whether requests have to wait meanwhile.
    pub gap: bool,
    /// The same for people, and why.
    pub message: String,
}

/// A former deployment is wanted back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The number of a deployment; the one that was live before when left out.
    #[serde(default)]
    pub to: Option<u64>,
}

/// What another app runs is wanted, exactly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// The name of the other app.
    #[serde(default)]
    pub from: String,
}
