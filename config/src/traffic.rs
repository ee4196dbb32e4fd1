//! How requests for an app are treated on their way, as it is meant.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{AppName, Hostname, PlainHttp, ProxyProtocol, UpstreamProtocol};

/// What the proxy does with an app's requests. Shared by the snapshots between two changes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficPolicy {
    pub plain_http: PlainHttp,
    /// Which of its host names lead to which other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub redirects: BTreeMap<Hostname, Hostname>,
    pub upstream: Upstream,
    pub timeouts: Timeouts,
    pub retries: Retries,
    pub outlier: Outlier,
    pub limits: Limits,
    pub client_auth: Option<ClientAuth>,
    /// The apps that may call this one by its private name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<AppName>,
}

impl Default for TrafficPolicy {
    /// What is meant when nothing is written.
    fn default() -> Self {
        crate::app::default_policy()
    }
}

/// How an app's instances are reached, by requests and by health checks alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upstream {
    pub protocol: UpstreamProtocol,
    pub tls: Option<UpstreamTls>,
    pub proxy_protocol: Option<ProxyProtocol>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UpstreamTls {
    pub server_name: Hostname,
    /// The trusted authorities; the public ones when `None`.
    pub roots: Option<Authorities>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    pub connect: Duration,
    pub read: Duration,
    pub write: Duration,
    pub total: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    pub attempts: u8,
    pub on_status: Vec<u16>,
    pub back_off: Duration,
    pub budget_percent: u8,
}

impl Retries {
    /// A total of more would not be seen to be reached.
    pub const MAX_ATTEMPTS: u8 = 5;
}

/// Passive health: see [`OutlierSpec`](crate::OutlierSpec).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlier {
    /// Never zero; `u32::MAX` when nothing is ejected.
    pub failures: u32,
    pub ejection: Duration,
    pub max_ejected_percent: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: u64,
    pub in_flight: u32,
    pub in_flight_per_instance: u32,
    pub rate: Option<Rate>,
    pub rate_per_client: Option<Rate>,
}

/// A token bucket: `requests` in `per`, and up to `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub requests: u32,
    pub per: Duration,
    pub burst: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAuth {
    pub roots: Authorities,
    pub optional: bool,
}

/// The DER certificates of authorities. They are hashed when they are read, so that a request,
/// which uses a connection again only where the same ones are trusted, does not hash them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Arc<[Arc<[u8]>]>", into = "Arc<[Arc<[u8]>]>")]
pub struct Authorities {
    hash: u64,
    certificates: Arc<[Arc<[u8]>]>,
}

impl Authorities {
    pub fn certificates(&self) -> &Arc<[Arc<[u8]>]> {
        &self.certificates
    }
}

impl From<Arc<[Arc<[u8]>]>> for Authorities {
    fn from(certificates: Arc<[Arc<[u8]>]>) -> Self {
        let mut hasher = DefaultHasher::new();
        certificates.hash(&mut hasher);
        Self { hash: hasher.finish(), certificates }
    }
}

impl FromIterator<Arc<[u8]>> for Authorities {
    fn from_iter<I: IntoIterator<Item = Arc<[u8]>>>(certificates: I) -> Self {
        certificates.into_iter().collect::<Arc<[_]>>().into()
    }
}

impl From<Authorities> for Arc<[Arc<[u8]>]> {
    fn from(authorities: Authorities) -> Self {
        authorities.certificates
    }
}

impl Hash for Authorities {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}
