//! Apps, shards and hosts as an operator writes them. Nothing behind the front door sees these types: they
//! become an [`App`](crate::App), a [`Shard`](crate::Shard) or a list of problems.

mod failover;
mod host;
mod rollout;
mod shard;
mod traffic;
mod zone;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

pub use self::{
    failover::{
        AnswerTtlSpec, CheckSpec, DegradedSpec, FailoverManifest, FailoverSpec, IncidentActionSpec,
        ShiftBackSpec, TargetSpec,
    },
    host::{
        CapacitySpec, DisconnectSpec, EngineSshSpec, EngineTlsSpec, HostManifest, HostSpec,
        PlacementSpec,
    },
    rollout::{RolloutSpec, Strategy},
    shard::{MemberSpec, ShardManifest, ShardSpec},
    traffic::{
        BalanceSpec, ClientAuthSpec, HashAlgorithm, LimitsSpec, OutlierSpec, PlainHttp,
        PrivateSpec, ProxyProtocol, RateSpec, RetriesSpec, TimeoutsSpec, UpstreamProtocol,
        UpstreamSpec, UpstreamTlsSpec,
    },
    zone::{SecondarySpec, SoaSpec, TsigKeySpec, TtlSpec, ZoneManifest, ZoneSpec},
};
use crate::{Memory, RestartPolicy, Span};

/// One document of a file given to `weir apply`, and the body of a write to the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppManifest {
    /// Always `App`.
    pub kind: String,
    /// A DNS label of at most 40 characters, without `--`.
    pub name: String,
    pub spec: AppSpec,
}

/// What an app should be: exactly one of `image`, `upstreams`, `shards` and `failover` says what
/// answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppSpec {
    /// The container image; pulled if the host does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Addresses (`IP:PORT`) of servers that something else keeps running.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<String>,
    /// Shards whose members answer. Among several, a hash of the host name chooses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<String>,
    /// A failover policy whose targets answer. A client's address chooses among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<String>,
    /// The port on which the app listens for HTTP inside its container.
    pub port: u16,
    /// How many copies run, 1 to 16.
    pub instances: u16,
    /// Which hosts they run on; any that takes instances when left out.
    pub placement: PlacementSpec,
    /// Replaces the image's command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment variables. Numbers and booleans are taken as they are written.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "texts")]
    pub env: BTreeMap<String, String>,
    /// Host names beside `<name>.<base domain>`; the first label may be `*`. With a path, as in
    /// `www.example.com/shop`, only requests below that path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Host names that lead to one of the others, as `example.com: www.example.com`: clients are sent
    /// there for good (308), with the path and the query that they ask for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub redirects: BTreeMap<String, String>,
    /// `SOURCE:TARGET[:ro]`, the source being a volume's name or an absolute path on the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Ports published on the host beside the proxied one: `[ADDRESS:]HOST:CONTAINER[/udp]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    pub resources: ResourcesSpec,
    /// What the engine does when the app's process ends by itself.
    pub restart: RestartPolicy,
    pub health: HealthSpec,
    /// When to sleep. Without it the app is always awake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep: Option<SleepSpec>,
    /// What plain HTTP requests get.
    pub http: PlainHttp,
    pub balance: BalanceSpec,
    pub upstream: UpstreamSpec,
    pub timeouts: TimeoutsSpec,
    pub retries: RetriesSpec,
    pub outlier: OutlierSpec,
    pub limits: LimitsSpec,
    /// Asks clients for certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuthSpec>,
    /// Calls between apps by private names.
    pub private: PrivateSpec,
    pub rollout: RolloutSpec,
}

impl Default for AppSpec {
    fn default() -> Self {
        Self {
            image: None,
            upstreams: Vec::new(),
            shards: Vec::new(),
            failover: None,
            port: 8080,
            instances: 1,
            placement: PlacementSpec::default(),
            command: Vec::new(),
            env: BTreeMap::new(),
            hostnames: Vec::new(),
            redirects: BTreeMap::new(),
            volumes: Vec::new(),
            ports: Vec::new(),
            resources: ResourcesSpec::default(),
            restart: RestartPolicy::default(),
            health: HealthSpec::default(),
            sleep: None,
            http: PlainHttp::default(),
            balance: BalanceSpec::default(),
            upstream: UpstreamSpec::default(),
            timeouts: TimeoutsSpec::default(),
            retries: RetriesSpec::default(),
            outlier: OutlierSpec::default(),
            limits: LimitsSpec::default(),
            client_auth: None,
            private: PrivateSpec::default(),
            rollout: RolloutSpec::default(),
        }
    }
}

/// Limits on each instance; what is left out is not limited, but for `pids`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcesSpec {
    /// CPU cores, such as `0.5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Such as `256MiB`.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Processes and threads; 512 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// How Weir knows that an instance can take traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSpec {
    #[serde(rename = "type")]
    pub kind: ProbeKind,
    /// The path of an HTTP check; any 2xx or 3xx answer passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Between two checks of an instance that takes traffic.
    #[schema(value_type = String)]
    pub interval: Span,
    /// For one check.
    #[schema(value_type = String)]
    pub timeout: Span,
    /// Passed checks in a row until an instance takes traffic.
    pub rise: u16,
    /// Failed checks in a row until it takes none.
    pub fall: u16,
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self {
            kind: ProbeKind::Tcp,
            path: None,
            interval: Span::seconds(5),
            timeout: Span::seconds(2),
            rise: 1,
            fall: 3,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// `GET path` on the app's port, spoken as `upstream` says; to a shard's member, as plain
    /// HTTP/1.1.
    Http,
    /// A connection to the app's port.
    #[default]
    Tcp,
}

/// When an app sleeps, and how its wake is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SleepSpec {
    /// Idle this long: frozen in memory. `null` skips this level.
    #[schema(value_type = Option<String>)]
    pub pause_after: Option<Span>,
    /// Idle this long: its process ends. `null` never goes this deep.
    #[schema(value_type = Option<String>)]
    pub stop_after: Option<Span>,
    /// After a start or a wake it stays awake at least this long.
    #[schema(value_type = String)]
    pub min_awake: Span,
    /// A held request waits at most this long for the app to be ready.
    #[schema(value_type = String)]
    pub wake_timeout: Span,
    /// So many requests wait at most; one more gets 503.
    pub queue: u32,
}

impl Default for SleepSpec {
    fn default() -> Self {
        Self {
            pause_after: Some(Span::seconds(5 * 60)),
            stop_after: Some(Span::seconds(60 * 60)),
            min_awake: Span::seconds(60),
            wake_timeout: Span::seconds(30),
            queue: 1000,
        }
    }
}

/// YAML reads `PORT: 8080` as a number, but an environment variable is always text.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
    let text = |(key, value)| match value {
        serde_json::Value::String(text) => Ok((key, text)),
        serde_json::Value::Number(number) => Ok((key, number.to_string())),
        serde_json::Value::Bool(flag) => Ok((key, flag.to_string())),
        _ => Err(de::Error::custom(format!("the value of `{key}` must be text"))),
    };
    values.into_iter().map(text).collect()
}
