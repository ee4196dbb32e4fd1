//! The words themselves.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_config::{InstanceId, SecretName, Secrets};

use crate::provider::ContainerSpec;

/// The longest call: a container's template with all its secrets.
pub(super) const MAX_CALL: usize = 8 << 20;
/// Where a connection is begun, where calls go, and where it is told that another one is wanted.
pub(super) const BEGIN: &str = "/begin";
pub(super) const CALL: &str = "/call";
pub(super) const LEAVE: &str = "/leave";

/// Where control asks to be connected to the next app there that calls another one (`CONNECT`), and
/// the header of the answer that says which it is.
pub(super) const OUTGOING: &str = "apps.weir.internal:80";
pub(super) const CALLER: &str = "weir-caller";

/// Where a newer program of the agent goes, and the header with its digest; and where the agent is
/// told to become it.
pub(super) const PROGRAM: &str = "/program";
pub(super) const DIGEST: &str = "weir-sha256";
pub(super) const RESTART: &str = "/restart";

/// An app on a device that calls another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub instance: InstanceId,
    /// Its address there.
    pub from: SocketAddr,
}

/// What a new device sends to become one, at `/enrol`.
#[derive(Serialize, Deserialize)]
pub struct Enrol {
    /// The secret of the invitation.
    pub token: String,
    /// The name that it would like to have, if the invitation does not say one.
    pub name: String,
    /// A request for a certificate (PEM, PKCS #10), signed with the key that was made there.
    pub request: String,
    pub about: About,
}

impl fmt::Debug for Enrol {
    /// Without its secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, about, .. } = self;
        f.debug_struct("Enrol").field("name", name).field("about", about).finish_non_exhaustive()
    }
}

/// What it gets for that.
#[derive(Debug, Serialize, Deserialize)]
pub struct Enrolled {
    pub name: String,
    /// The certificate of its key (PEM).
    pub certificate: String,
    /// Whose certificates it is to believe (PEM).
    pub authority: String,
    /// What marks the containers that are Weir's.
    pub cluster: String,
    /// Control's time, in milliseconds since the Unix epoch: a device may have no clock.
    pub now: i64,
}

/// The first thing that control says on a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// Grows with every start of control, so that one of the past is known.
    pub epoch: u64,
    /// Milliseconds since the Unix epoch.
    pub now: i64,
}

/// What a device says of itself when it connects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct About {
    pub agent_version: String,
    pub hostname: String,
    pub arch: String,
    pub os: String,
    pub kernel: String,
    pub cpus: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes of the file system that containers are kept on: in all, and free.
    pub disk: u64,
    pub disk_free: u64,
    /// Of the hottest part, in degrees Celsius, if it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    pub gpus: Vec<String>,
    /// Another one after each start of the machine.
    pub boot_id: String,
    /// Of the Docker Engine, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// The digest (SHA-256, in hex) of the agent's program, if it came from control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// What came of the last one from there, if it did not stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_failed: Option<String>,
}

/// One call of a [`Provider`](crate::Provider).
#[derive(Serialize, Deserialize)]
pub(super) enum Call {
    Info,
    Ping,
    List,
    Inspect(InstanceId),
    Create { spec: ContainerSpec, secrets: BTreeMap<SecretName, String> },
    Start(InstanceId),
    Pause(InstanceId),
    Unpause(InstanceId),
    Stop { instance: InstanceId, grace: Duration },
    Remove(InstanceId),
    Logs { instance: InstanceId, tail: Option<usize>, follow: bool },
    Stats(InstanceId),
    Exec { instance: InstanceId, command: Vec<String>, limit: Duration },
    ExactImage(InstanceId),
    Events,
}

/// Secrets as they travel: they have no serialisation of their own, so that nothing sends them by
/// mistake.
pub(super) fn exposed(secrets: &Secrets) -> BTreeMap<SecretName, String> {
    let exposed = |(name, secret): (&SecretName, &weir_config::Secret)| {
        (name.clone(), secret.expose().to_owned())
    };
    secrets.iter().map(exposed).collect()
}
