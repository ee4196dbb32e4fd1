//! Failover policies.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_config::{FailoverMode, Span};

use super::{CarriedPolicy, Phase};

/// How the names of a policy are served, in a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailoverStatus {
    /// `progressing` until the policy is carried out, then `ready`.
    pub phase: Phase,
    /// The generation of the spec that this status is about; 0 as long as it is about none.
    pub observed_generation: u64,
}

/// How the names of a policy are served, all of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailoverHealth {
    pub policy: String,
    pub mode: FailoverMode,
    /// `healthy`, `degraded` (served, but somebody is not well), `down` or `unknown`.
    pub overall: String,
    /// `steady`, `suspect`, `failing_over`, `failed_over`, `shifting_back`, `all_down`, `frozen` or
    /// `forced`.
    pub phase: String,
    /// The target with the largest share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// The one that would be next: well, in order, and not the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<String>,
    /// Grows with every change of what is served.
    pub epoch: u64,
    /// For how many seconds resolvers may keep an answer.
    pub ttl: u64,
    /// What suspends the law.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<FailoverHold>,
    /// In the policy's order.
    pub targets: Vec<TargetHealth>,
    /// Records of its names that operators have written, and that are answered instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written_by_hand: Vec<WrittenByHand>,
    /// How far the provider is with names in zones that are hosted elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<CarriedPolicy>,
    /// The incident that is going on, else the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<FailoverIncident>,
}

/// An order that suspends the law, or a freeze after too many departures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailoverHold {
    /// `frozen` or `forced`.
    pub state: String,
    /// `operator` or `damping`.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// RFC 3339.
    pub until: String,
}

/// One target of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TargetHealth {
    pub name: String,
    /// Where it is, as it is written.
    pub place: String,
    /// The addresses by which it is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The part of the clients that go to it, in percent.
    pub share: f64,
    /// The same as the law would have it; another one if the mode is not `auto`.
    pub decided_share: f64,
    /// `in`, `aside`, `easing`, `out` or `returning`.
    pub standing: String,
    /// Until when one that is out stays out at least: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
    /// `up`, `suspected`, `doubted`, `mending`, `down` or `unknown`.
    pub health: String,
    /// After how many milliseconds it usually answers a probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The part of what clients asked of it that failed, from 0 to 1, since this process counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check: Option<String>,
    /// Why the last check failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A name that is answered by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WrittenByHand {
    pub hostname: String,
    pub zone: String,
    /// As `A` or `CNAME`.
    pub types: Vec<String>,
}

/// How a failover went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailoverIncident {
    /// RFC 3339.
    pub opened_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<String>,
    /// From the first miss to the first decision to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_decision_ms: Option<u64>,
    /// From there until the proxy serves it, and until DNS does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_route_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_dns_ms: Option<u64>,
    /// What was still under way on a target when it was left.
    pub leaked_requests: u64,
    /// What the proxy sent again, to another target.
    pub retried_requests: u64,
    /// How often shares have changed.
    pub transitions: u64,
    /// What was decided, in words.
    pub decisions: Vec<FailoverDecision>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailoverDecision {
    /// RFC 3339.
    pub at: String,
    /// As `left` or `returning`.
    pub action: String,
    pub detail: String,
}

/// All clients to one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForceRequest {
    pub target: String,
    /// At most 30 days.
    #[serde(default = "an_hour")]
    #[schema(value_type = String)]
    pub r#for: Span,
}

/// Everything stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// At most 30 days.
    #[serde(default = "an_hour")]
    #[schema(value_type = String)]
    pub r#for: Span,
}

impl Default for FreezeRequest {
    fn default() -> Self {
        Self { r#for: an_hour() }
    }
}

/// What is to be tried out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimulateRequest {
    /// Targets that are to be down, whatever is known of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<String>,
    /// And well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub up: Vec<String>,
    /// Clients whose answers are wanted, as `192.0.2.0/24` or an address; some examples when left
    /// out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
}

/// What would be served; nothing is changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailoverSimulation {
    /// In percent, in the policy's order.
    pub shares: Vec<SimulatedShare>,
    /// What would be decided, in words.
    pub decisions: Vec<String>,
    pub answers: Vec<SimulatedAnswer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SimulatedShare {
    pub target: String,
    pub share: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SimulatedAnswer {
    /// A network of which all clients get the same.
    pub client: String,
    /// `None` if nobody has a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// As `CNAME cdn.example` or `A 192.0.2.1`; at the name of a zone, the addresses of the CDN
    /// instead of a CNAME.
    pub records: Vec<String>,
    /// In seconds.
    pub ttl: u64,
}

fn an_hour() -> Span {
    Span::seconds(60 * 60)
}
