//! What was asked for, what came of it, and what happened.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What somebody asked for, and what has come of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationResource {
    /// `op_` and a number that grows.
    pub id: String,
    /// Of the object that it is about.
    pub kind: String,
    pub name: String,
    /// The generation of the object that it made, or found.
    pub generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u64>,
    /// As `put`, `deploy` or `wake`.
    pub verb: String,
    /// The token that asked.
    pub actor: String,
    /// `running`, `succeeded`, `failed`, `superseded` or `cancelled`.
    pub state: String,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// RFC 3339.
    pub created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<String>,
    /// Of a rolling update that is asked for by its id: how far each of its apps is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<UpdatedAppResource>,
}

/// How far an app of a rolling update is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdatedAppResource {
    pub app: String,
    /// The deployment that was made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u64>,
    /// `waiting`, `running`, `done`, `failed` or `skipped`.
    pub state: String,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventRecord {
    /// Grows with every event.
    pub id: u64,
    /// RFC 3339.
    pub at: String,
    /// Of the object: `App`, `Shard` or `Host`.
    pub kind: String,
    pub name: String,
    /// The deployment that it is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u64>,
    /// What happened, as `InstanceReady`: a stable word for programs.
    pub r#type: String,
    /// Why, as `HealthCheckFailed`: a stable word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// A step in the log of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepRecord {
    /// RFC 3339.
    pub at: String,
    /// As in an event.
    pub r#type: String,
    pub reason: String,
    pub message: String,
}

/// Who changed what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// The operation.
    pub id: String,
    /// RFC 3339.
    pub at: String,
    /// The token that was used.
    pub actor: String,
    pub verb: String,
    pub kind: String,
    pub name: String,
    /// Of the store; none if the spec has not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The spec before and after, without its secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}
