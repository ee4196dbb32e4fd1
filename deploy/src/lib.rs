//! Puts instances on hosts.
//!
//! [`Provider`] is what control asks of a host's container engine, and all that it knows of one.
//! [`Docker`] answers for a Docker Engine, [`Device`] for one that is on a device, through the
//! agent there. Nothing here decides anything: control's plan says what to do, a provider does it
//! and reports what is.

mod device;
mod docker;
mod provider;
mod transport;

pub use device::{
    About, Agent, Begin, Caller, Device, Devices, Enrol, Enrolled, Link, Program, serve,
};
pub use docker::Docker;
pub use provider::{
    Container, ContainerEvent, ContainerSpec, ContainerState, EngineInfo, ExecOutput, Listing,
    LogLine, LogStream, Provider, ProviderError, Stats, Stream,
};
pub use transport::{Arrivals, Arrived, Duplex, Network, TailnetOptions, Transport};
