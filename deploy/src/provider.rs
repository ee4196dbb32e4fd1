//! What control asks of a container engine.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use weir_config::{InstanceId, Reach, Secrets, Template};

use crate::transport::{self, Duplex};

/// A stream of a provider's answers. Dropping it ends the request behind it.
pub type Stream<T> = Pin<Box<dyn futures::Stream<Item = Result<T, ProviderError>> + Send>>;

/// One host's container engine.
///
/// Every call has a deadline inside, so that a hung engine becomes an error and never a wait
/// without end. Every call may be repeated: asking for what is already so succeeds.
#[async_trait]
pub trait Provider: std::fmt::Debug + Send + Sync + 'static {
    /// What the engine is; also the way to ask whether it answers.
    async fn info(&self) -> Result<EngineInfo, ProviderError>;

    /// Whether the engine answers, at as little cost as can be.
    async fn ping(&self) -> Result<(), ProviderError> {
        self.info().await.map(drop)
    }

    /// Every container of this Weir, running or not.
    async fn list(&self) -> Result<Listing, ProviderError>;

    /// One container as it is now; `None` if there is none of that instance.
    async fn inspect(&self, instance: &InstanceId) -> Result<Option<Container>, ProviderError>;

    /// Makes the instance's container, pulling its image if the host does not have it. A container
    /// of the same name and template is adopted; one of this Weir with another template is replaced.
    /// `secrets` are the values that the template names.
    async fn create(&self, spec: &ContainerSpec, secrets: &Secrets) -> Result<(), ProviderError>;

    async fn start(&self, instance: &InstanceId) -> Result<(), ProviderError>;

    async fn pause(&self, instance: &InstanceId) -> Result<(), ProviderError>;

    async fn unpause(&self, instance: &InstanceId) -> Result<(), ProviderError>;

    /// Ends the process: SIGTERM, and after `grace` SIGKILL. A paused container is unpaused first.
    async fn stop(&self, instance: &InstanceId, grace: Duration) -> Result<(), ProviderError>;

    /// Removes the container, running or not. Named volumes stay.
    async fn remove(&self, instance: &InstanceId) -> Result<(), ProviderError>;

    /// The last `tail` lines (all if `None`) of what the instance wrote, and with `follow` the
    /// lines to come.
    async fn logs(
        &self,
        instance: &InstanceId,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<Stream<LogLine>, ProviderError>;

    /// What the instance uses at this moment.
    async fn stats(&self, instance: &InstanceId) -> Result<Stats, ProviderError>;

    /// Runs a command inside the instance and waits for its end, at most `limit`.
    async fn exec(
        &self,
        instance: &InstanceId,
        command: &[String],
        limit: Duration,
    ) -> Result<ExecOutput, ProviderError>;

    /// A name by which exactly the instance's image can be had: its digest in the registry that it
    /// came from, else its identity on this host.
    async fn exact_image(&self, instance: &InstanceId) -> Result<String, ProviderError>;

    /// Changes of this Weir's containers, from now on. Subscribed when this returns: list after
    /// it, and nothing is missed. The stream ends or errs when the engine goes away.
    async fn events(&self) -> Result<Stream<ContainerEvent>, ProviderError>;

    /// Connects to a container's address, as it is told in [`Container`].
    async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(transport::connect(address).await?))
    }
}

/// What a container is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub instance: InstanceId,
    pub template: Arc<Template>,
}

/// Every container there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub containers: Vec<Container>,
    /// Those that are there but could not be looked at, as one that the engine hangs on: they must
    /// not be taken for gone, and are no reason to know nothing of the others.
    pub unknown: Vec<InstanceId>,
}

/// A container as the engine has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub instance: InstanceId,
    /// The engine's own identity of it: another one means that it was made anew.
    pub id: String,
    pub state: ContainerState,
    /// When its process was last started, in nanoseconds since the Unix epoch by the engine's
    /// clock; 0 if it never was.
    pub started_at: i128,
    /// Where it is reached while it runs: from this machine or, if so it is reached, from its
    /// device.
    pub address: Option<IpAddr>,
    #[serde(default)]
    pub reach: Reach,
    /// The port at that address: on which its app listens (of its template, which it outlives, by
    /// the label `weir.port`), or at which that is published.
    pub port: u16,
    /// How often the engine restarted it by itself.
    pub restarts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    Running,
    Paused,
    /// Its process ended by itself and the engine will start it again.
    Restarting,
    Exited {
        code: i64,
        /// The kernel ended it for its use of memory.
        out_of_memory: bool,
    },
    /// The engine is removing it, or failed to: it is of no use.
    Dead,
}

/// Something happened to a container of this Weir. Only a hint to look again, but for the exit
/// code, which a restart policy may hide a moment later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEvent {
    pub instance: InstanceId,
    /// By the engine's clock, as [`Container::started_at`]: tells which of its processes it was.
    pub at: i128,
    /// Set when its process ended.
    pub exit_code: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    pub name: String,
    pub version: String,
    pub api_version: String,
    pub os: String,
    pub arch: String,
    pub cpus: u64,
    /// Bytes.
    pub memory: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub stream: LogStream,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogStream {
    Out,
    Err,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time used since the start.
    pub cpu: Duration,
    /// Bytes, the page cache not counted.
    pub memory: u64,
    pub processes: u64,
    /// Bytes by network interface: received, sent.
    pub network: BTreeMap<String, (u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutput {
    pub exit_code: i64,
    pub lines: Vec<LogLine>,
}

/// Why an engine did not do what it was asked. The variants are what control decides by; the text
/// is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ProviderError {
    /// Nothing answers: the engine is down, or may not be reached by this user.
    #[error("the Docker Engine at {endpoint} does not answer: {reason}")]
    Unreachable { endpoint: String, reason: String },
    /// Trying again without a change will not help.
    #[error("the image `{image}` cannot be had: {reason}")]
    Image { image: String, reason: String },
    #[error("there is no container of instance {0}")]
    NoContainer(InstanceId),
    /// The name is used by a container that this Weir did not make.
    #[error("the container name `{name}` is taken by {owner}; remove or rename that container")]
    NameTaken { name: String, owner: String },
    #[error("{call} took longer than {limit:?}")]
    TimedOut { call: Cow<'static, str>, limit: Duration },
    #[error("the engine refused: {0}")]
    Refused(String),
}
