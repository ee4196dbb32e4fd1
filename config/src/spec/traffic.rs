//! How requests for an app are treated on their way, as an operator writes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Memory, Span};

/// What the plain HTTP port does with requests for an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlainHttp {
    /// Sends clients to HTTPS.
    #[default]
    Redirect,
    /// Serves the app, HTTP/2 with prior knowledge (h2c) included.
    Serve,
}

/// Which instance or member a request goes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BalanceSpec {
    /// Requests with the same key go to the same one: `host`, `ip`, `path`, `cookie:NAME` or
    /// `header:NAME`. Left out, each goes to the less loaded of two taken at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    pub algorithm: HashAlgorithm,
    /// How many times the mean load one may carry before its requests go to the next; 1 or less is
    /// not possible, and left out means 1.25.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_load: Option<f64>,
    /// One that has just become ready gets its full share only after so long.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Span>,
}

/// The table that keys are looked up in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// Points on a ring: least keys move when members change.
    #[default]
    Ring,
    /// Google's Maglev: the evenest shares, and one memory access for a look-up.
    Maglev,
}

/// How the proxy speaks to an app's instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamSpec {
    pub protocol: UpstreamProtocol,
    /// Left out, the connection is plaintext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTlsSpec>,
    /// The header of the PROXY protocol that each connection begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum UpstreamProtocol {
    #[default]
    #[serde(rename = "http/1.1")]
    Http1,
    /// Without TLS it is spoken with prior knowledge (h2c). What gRPC needs.
    #[serde(rename = "h2")]
    Http2,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTlsSpec {
    /// The name that the certificate must be for, and that is sent as SNI.
    pub server_name: String,
    /// PEM certificates of the authorities that are trusted, instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// How long the proxy waits for an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsSpec {
    #[schema(value_type = String)]
    pub connect: Span,
    /// Between two reads; an upgraded connection (WebSocket) may be silent for an hour.
    #[schema(value_type = String)]
    pub read: Span,
    /// Between two writes.
    #[schema(value_type = String)]
    pub write: Span,
    /// From a request's release to the end of its answer, WebSockets excepted; an answer that falls
    /// silent may be cut later, by `read` or by as much again. Left out, a request may take as long
    /// as bytes flow.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Span>,
}

impl Default for TimeoutsSpec {
    fn default() -> Self {
        Self {
            connect: Span::seconds(3),
            read: Span::seconds(60),
            write: Span::seconds(60),
            total: None,
        }
    }
}

/// When a request is sent again, to another instance if there is one.
///
/// One that could not be sent at all is always sent elsewhere; this is about those that were sent
/// and failed. Only idempotent ones (RFC 9110 section 9.2.2) without a large body are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetriesSpec {
    /// How often one request may be sent again; 0 is never.
    pub attempts: u8,
    /// Answers that count as failures, from 500 to 599.
    pub on_status: Vec<u16>,
    /// The pause before the first; each one doubles it, and up to half of it is left to chance.
    #[schema(value_type = String)]
    pub back_off: Span,
    /// Retries may be at most so many percent of an app's requests, over the last ten seconds; a few
    /// are always allowed.
    pub budget_percent: u8,
}

impl Default for RetriesSpec {
    fn default() -> Self {
        Self {
            attempts: 1,
            on_status: Vec::new(),
            back_off: Span(std::time::Duration::from_millis(25)),
            budget_percent: 20,
        }
    }
}

/// When an instance that fails gets no requests for a while, before any health check notices. One
/// that is ready anew begins with a clean sheet. A shard's member has one sheet for all its apps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierSpec {
    /// So many failures in a row (no connection, no answer, 5xx) eject it; 0 never does.
    pub failures: u32,
    /// For how long at first; each ejection in a row doubles it, up to 16 times.
    #[schema(value_type = String)]
    pub ejection: Span,
    /// When more than so many percent would be ejected, none is: the fault is not theirs.
    pub max_ejected_percent: u8,
}

impl Default for OutlierSpec {
    fn default() -> Self {
        Self { failures: 5, ejection: Span::seconds(10), max_ejected_percent: 50 }
    }
}

/// What one app may take of the proxy, and strangers of the app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// The largest body of a request; a larger one gets 413. Left out, 1 GiB.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Memory>,
    /// Requests under way; one more gets 503. Left out, 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Requests under way on one instance; one more goes to another, or gets 503 when all are full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight_per_instance: Option<u32>,
    /// Requests of everybody together; more get 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateSpec>,
    /// Requests of one client address (IPv6: one /64); more get 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_client: Option<RateSpec>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// So many requests …
    pub requests: u32,
    /// … in so long.
    #[schema(value_type = String)]
    #[serde(default = "a_second")]
    pub per: Span,
    /// So many may come at once; left out, as many as `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

fn a_second() -> Span {
    Span::seconds(1)
}

/// Which clients may connect to an app at all (mutual TLS). The app is told whose certificate it was
/// in `Client-Cert` (RFC 9440). Other apps on paths of the same host name are behind it too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuthSpec {
    /// PEM certificates of the authorities that clients' certificates must come from.
    pub ca: String,
    /// Whether a client without a certificate may connect too; the app is told which it is.
    #[serde(default)]
    pub optional: bool,
}

/// How apps call each other by private names, over the connections of devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrivateSpec {
    /// The apps that may call this one, as `http://NAME.weir.internal/`. Nobody else may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// The apps that this one calls, from a device: their private names are known in its containers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
}
