//! What is wrong, and who is told.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_config::Severity;

/// Something that is wrong, or was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IncidentResource {
    pub id: String,
    /// By which rule, as `crash-loop`.
    pub rule: String,
    /// What it is about, as `App/shop`.
    pub subject: String,
    pub severity: Severity,
    pub title: String,
    pub detail: String,
    /// `open` or `resolved`.
    pub state: String,
    /// How often it was opened.
    pub occurrences: i64,
    /// RFC 3339.
    pub opened_at: String,
    pub updated_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<String>,
    /// The token of who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<String>,
}

/// An incident with its record, the oldest event first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IncidentDetails {
    #[serde(flatten)]
    pub incident: IncidentResource,
    pub events: Vec<IncidentEventResource>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IncidentEventResource {
    /// Counts from 1.
    pub number: i64,
    /// RFC 3339.
    pub at: String,
    /// A token, or `weir`.
    pub actor: String,
    /// `opened`, `changed`, `acknowledged`, `note`, `resolved` or `reopened`.
    pub action: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A line for an incident's record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteRequest {
    pub text: String,
}

/// How a notifier does. Its spec is shown without what is secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NotifierStatus {
    pub has_secret: bool,
    /// Messages that it has not taken yet.
    pub queued: i64,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// What came of a test message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NotifierTest {
    /// Its `webhook-id`.
    pub id: String,
    pub delivered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
