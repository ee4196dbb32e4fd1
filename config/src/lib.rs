//! The vocabulary that every part of Weir shares, and nothing that does I/O.
//!
//! What an operator writes ([`AppSpec`], [`SettingsSpec`]) becomes what is meant ([`App`],
//! [`Desired`], [`Settings`]) or a list of every [`Problem`] with its place. What the control loop
//! decides is served as one immutable [`Snapshot`]: a [`Publisher`] swaps it, [`Snapshots`] reads
//! it. What the data plane does comes back as levels ([`Activity`]) and hints ([`Observe`]).

mod activity;
mod app;
mod clock;
mod decode;
mod deployment;
mod document;
mod host_table;
mod instance;
mod last_good;
mod name;
mod observe;
mod problem;
mod publish;
mod settings;
mod snapshot;
mod spec;
mod units;

pub use activity::{
    Activity, AppActivity, EndpointLease, HISTOGRAM_BOUNDS_SECONDS, Held, HistogramReading,
    InFlight, Lease,
};
pub use app::{
    App, HealthCheck, PortMapping, Probe, Resources, RestartPolicy, Rollout, SleepPolicy, Timeouts,
    Volume,
};
pub use clock::Moment;
pub use decode::decode;
pub use deployment::{Deployment, Desired, DesiredApp, Template};
pub use document::{Document, parse_documents};
pub use instance::{InstanceId, SleepLevel};
pub use last_good::LastGood;
pub use name::{AppName, Hostname, RESERVED_NAMES};
pub use observe::{NoObserver, Observe};
pub use problem::{Place, Problem, Problems};
pub use publish::{Admission, Decision, Publisher, Snapshots, StaleGeneration, channel};
pub use settings::{LogFormat, Settings, SettingsSpec};
pub use snapshot::{AppRoute, Certificate, Endpoint, RouteState, Snapshot};
pub use spec::{
    AppManifest, AppSpec, HealthSpec, ProbeKind, ResourcesSpec, RolloutSpec, SleepSpec,
    TimeoutsSpec,
};
pub use units::{Memory, Span};
