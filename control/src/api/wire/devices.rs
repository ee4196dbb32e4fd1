//! Devices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_config::Span;
use weir_deploy::About;

/// A machine that is a host by the connection that it makes. What runs there, and how it is placed
/// on, is said by the host of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceResource {
    /// Always `Device`.
    pub kind: String,
    pub name: String,
    pub state: DeviceState,
    /// Of its key: SHA-256 of the public key info.
    pub fingerprint: String,
    /// The node of the tailnet by which alone it comes, if it was enrolled by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tailnet_node: Option<String>,
    /// Of its host.
    pub labels: BTreeMap<String, String>,
    pub instances: u64,
    /// What it said of itself when it connected last.
    pub about: About,
    /// RFC 3339, as are the others.
    pub enrolled_at: String,
    /// When its connection began last, or ended.
    pub seen_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    Connected,
    Away,
    /// It is never let in again.
    Revoked,
}

/// Who may become a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InviteRequest {
    /// The name that it is to have; left out, its own. A device that has the name already is
    /// replaced by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What apps choose it by, beside `class: edge` and `device: NAME`.
    pub labels: BTreeMap<String, String>,
    /// How long the invitation is good; 1h if left out.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
}

/// The name that a device is to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameRequest {
    pub to: String,
}

/// An invitation, which is told only once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceInvite {
    pub token: String,
    /// Where the device is to connect to: `HOST:PORT`.
    pub control: String,
    /// What to run on the device.
    pub command: String,
    pub expires_at: String,
}
