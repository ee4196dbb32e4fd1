//! Providers of zones that are hosted elsewhere.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is carried out by a provider. Its spec is shown without what is secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderStatus {
    /// The failover policies that it carries out.
    pub policies: Vec<CarriedPolicy>,
}

/// One policy, as its provider has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CarriedPolicy {
    pub policy: String,
    pub provider: String,
    /// `current`, or `behind` for as long as the provider does not have what is to be.
    pub state: String,
    /// The epoch that is to be there.
    pub epoch: u64,
    /// When that was tried last: RFC 3339.
    pub tried_at: String,
    /// Why it is behind, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether writing a provider would change what is not shown of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderPreview {
    pub changes_secret: bool,
}

/// What came of a connection test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderTest {
    pub passed: bool,
    /// What was looked at.
    pub found: Vec<String>,
    /// What is wrong, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Names of which a provider's caches are to forget everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    pub hostnames: Vec<String>,
}

/// Another's name that a provider serves, and its certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CustomHostnameResource {
    pub hostname: String,
    /// `active` once it is served.
    pub status: String,
    /// `active` once its certificate is shown; before that what is waited for.
    pub tls: String,
    /// Why there is no certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}
