//! Puts instances on hosts.
//!
//! [`Provider`] is what control asks of a host's container engine, and all that it knows of one.
//! [`Docker`] answers for a Docker Engine. Nothing here decides anything: control's plan says what
//! to do, a provider does it and reports what is.

mod docker;
mod provider;

pub use docker::Docker;
pub use provider::{
    Container, ContainerEvent, ContainerSpec, ContainerState, EngineInfo, ExecOutput, Listing,
    LogLine, LogStream, Provider, ProviderError, Stats, Stream,
};
