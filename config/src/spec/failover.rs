//! A failover policy as an operator writes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AllDown, FailoverMode, Sharing, Span};

/// A document of kind `FailoverPolicy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailoverManifest {
    /// Always `FailoverPolicy`.
    pub kind: String,
    /// A DNS label of at most 40 characters, without `--`.
    pub name: String,
    pub spec: FailoverSpec,
}

/// Who serves some host names, and by what law that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailoverSpec {
    /// The host names that are served so.
    pub hostnames: Vec<String>,
    /// From the most preferred to the least.
    pub targets: Vec<TargetSpec>,
    #[serde(default)]
    pub mode: FailoverMode,
    #[serde(default)]
    pub sharing: Sharing,
    #[serde(default)]
    pub degraded: DegradedSpec,
    /// How long a target that was left stays out the first time; it doubles with each time within
    /// an hour, up to half an hour.
    #[serde(default = "hold_down")]
    #[schema(value_type = String)]
    pub hold_down: Span,
    #[serde(default)]
    pub shift_back: ShiftBackSpec,
    #[serde(default)]
    pub all_down: AllDown,
    #[serde(default)]
    pub ttl: AnswerTtlSpec,
    /// Who answers for those of the host names that are in zones which are hosted elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What is done when a failover begins, beside the shift itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_incident: Vec<IncidentActionSpec>,
}

/// Something that is done when a failover begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum IncidentActionSpec {
    /// These notifiers are told, whatever else they are told of.
    Page(Vec<String>),
    /// An app gets so many instances at least.
    Scale { app: String, instances: u16 },
    /// An app goes back to the deployment that was live before.
    RollBack(String),
}

/// One that can serve the names: exactly one of `cdn`, `addresses`, `region` and `own`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// Unique among its fellows; says which clients are its own.
    pub name: String,
    /// The host name that a CDN gave for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cdn: Option<String>,
    /// The addresses of a region.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// A region: the public addresses of its hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Weir's own proxies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// Its share beside the others', 1 to 1000, if they share by weight.
    #[serde(default = "one")]
    pub weight: u16,
    /// Requests per second that it never gets more of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
    #[serde(default)]
    pub check: CheckSpec,
}

/// How a target is asked whether it is well, once a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckSpec {
    /// `GET` it, as the first of the host names; 2xx and 3xx are good.
    pub path: String,
    pub port: u16,
    /// Whether by HTTPS, with a certificate for the host name.
    pub tls: bool,
}

/// From when on a target that answers is not good enough, if another is clearly better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DegradedSpec {
    /// The part of its answers that fail.
    pub error_rate: f64,
    /// The 95th percentile of its times.
    #[schema(value_type = String)]
    pub latency: Span,
}

/// How a target that was left comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShiftBackSpec {
    /// The percentages that it gets, one after the other, before it gets its whole share.
    pub steps: Vec<u8>,
    /// How long each takes at least.
    #[schema(value_type = String)]
    pub step_for: Span,
    /// So many requests it answers in each, or the step takes four times as long.
    pub requests: u64,
    /// How much more of its answers may fail than of the others'.
    pub error_rate: f64,
    /// How many times the others' 95th percentile its own may be.
    pub latency: f64,
}

/// For how long resolvers may keep an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerTtlSpec {
    #[schema(value_type = String)]
    pub steady: Span,
    /// While something is about to change.
    #[schema(value_type = String)]
    pub low: Span,
}

impl Default for CheckSpec {
    fn default() -> Self {
        Self { path: "/".to_owned(), port: 443, tls: true }
    }
}

impl Default for DegradedSpec {
    fn default() -> Self {
        Self { error_rate: 0.05, latency: Span(std::time::Duration::from_millis(500)) }
    }
}

impl Default for ShiftBackSpec {
    fn default() -> Self {
        Self {
            steps: vec![5, 25, 50],
            step_for: Span::seconds(30),
            requests: 200,
            error_rate: 0.005,
            latency: 1.2,
        }
    }
}

impl Default for AnswerTtlSpec {
    fn default() -> Self {
        Self { steady: Span::seconds(30), low: Span::seconds(5) }
    }
}

fn one() -> u16 {
    1
}

fn hold_down() -> Span {
    Span::seconds(60)
}
