//! The vocabulary that every part of Weir shares, and nothing that does I/O.
//!
//! What an operator writes ([`AppSpec`], [`SettingsSpec`]) becomes what is meant ([`App`],
//! [`Desired`], [`Settings`]) or a list of every [`Problem`] with its place. What the control loop
//! decides is served as one immutable [`Snapshot`]: a [`Publisher`] swaps it, [`Snapshots`] reads
//! it. What the data plane does comes back as levels ([`Activity`]) and hints ([`Observe`]).

mod activity;
mod app;
mod certificates;
mod client_key;
mod clock;
mod decode;
mod deployment;
pub mod dns;
mod document;
pub mod exposition;
mod failover;
mod hash;
mod host;
mod host_table;
mod hosted_zone;
mod instance;
mod issuer;
mod last_good;
mod manifest;
mod name;
mod networks;
mod notifier;
mod observe;
mod pool;
mod problem;
mod provider;
mod proxy_settings;
mod publish;
pub mod rdata;
mod resolver;
mod secret;
mod settings;
mod shard;
mod snapshot;
mod spec;
mod traffic;
mod units;
mod zone_file;

pub use activity::{
    Activity, Answers, AppActivity, EndpointActivity, EndpointLease, HISTOGRAM_BOUNDS_SECONDS,
    Held, HistogramReading, Incident, Lease, Standing, UpstreamConnection,
};
pub use app::{
    App, Gates, HealthCheck, PortMapping, Probe, Resources, RestartPolicy, Rollout, SleepPolicy,
    Source, Volume,
};
pub use certificates::{Certificate, Certificates};
pub use client_key::ClientKey;
pub use clock::Moment;
pub use decode::decode;
pub use deployment::{
    Cause, Contention, Deployment, DeploymentState, Desired, DesiredApp, Ending, Template,
};
pub use dns::{DnsName, RecordSet, RecordType, Secondary, TsigAlgorithm, TsigKey, Zone};
pub use document::{Document, parse_documents};
pub use failover::{
    AllDown, Buckets, DegradedLimits, FailoverLaw, FailoverMode, FailoverPolicy, FailoverTarget,
    Gate, MAX_TARGETS, Shares, Sharing, Steered, SteeredTarget, Steering, TargetCheck, TargetLaw,
    TargetPlace, Ttl, WHOLE,
};
pub use hash::Numbers;
pub use host::{
    CLASS_LABEL, Capacity, DEVICE_LABEL, Disconnect, Engine, Host, Placement, Ssh, has_labels,
};
pub use hosted_zone::{
    Alias, DesiredZone, HostedZone, ImportedZone, MAX_NAMES, RecordSetSpec, SEALED_PREFIX, Serials,
    SoaTimes, Ttls, WrittenSet, ZoneKey, ZoneName, ZoneSecondary, tsig_secret,
};
pub use instance::{EndpointId, InstanceId, MemberId, MemberOf, Reach, SleepLevel};
pub use issuer::{AcmeChallenge, EabSpec, IssuerManifest, IssuerSpec};
pub use last_good::LastGood;
pub use manifest::Manifest;
pub use name::{
    AppName, FailoverName, HostName, HostPath, Hostname, IssuerName, MemberName, NotifierName,
    ProviderName, RESERVED_NAMES, SecretName, ShardName, TargetName,
};
pub use networks::Networks;
pub use notifier::{
    NotifierEvent, NotifierFormat, NotifierManifest, NotifierSpec, SECRET_PREFIX, Severity,
};
pub use observe::{NoObserver, Observe};
pub use pool::{Backends, Balance, Choice, Endpoint, HashKey, Pool};
pub use problem::{Place, Problem, Problems};
pub use provider::{CloudflareSpec, ProviderManifest, ProviderSpec, WebhookSpec};
pub use proxy_settings::{ProxySettings, ProxySpec};
pub use publish::{Admission, Decision, Publisher, Snapshots, StaleGeneration, channel};
pub use resolver::{Found, Lookup, Resolver};
pub use secret::{MAX_SECRET, Secret, Secrets};
pub use settings::{LogFormat, Settings, SettingsSpec, TailnetSpec};
pub use shard::{Member, Shard};
pub use snapshot::{AppRoute, RouteState, Snapshot};
pub use spec::{
    AnswerTtlSpec, AppManifest, AppSpec, BalanceSpec, CapacitySpec, CheckSpec, ClientAuthSpec,
    DegradedSpec, DisconnectSpec, EngineSshSpec, EngineTlsSpec, FailoverManifest, FailoverSpec,
    HashAlgorithm, HealthSpec, HostManifest, HostSpec, IncidentActionSpec, LimitsSpec, MemberSpec,
    OutlierSpec, PlacementSpec, PlainHttp, PrivateSpec, ProbeKind, ProxyProtocol, RateSpec,
    ResourcesSpec, RetriesSpec, RolloutSpec, SecondarySpec, ShardManifest, ShardSpec,
    ShiftBackSpec, SleepSpec, SoaSpec, Strategy, TargetSpec, TimeoutsSpec, TsigKeySpec, TtlSpec,
    UpstreamProtocol, UpstreamSpec, UpstreamTlsSpec, ZoneManifest, ZoneSpec,
};
pub use traffic::{
    Authorities, ClientAuth, Limits, Outlier, Rate, Retries, Timeouts, TrafficPolicy, Upstream,
    UpstreamTls,
};
pub use units::{Memory, Span};
pub use zone_file::{
    Entry, MAX_SECONDS, WrittenType, read as read_zone_file, write as write_zone_file,
};
