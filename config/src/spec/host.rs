//! A host as an operator writes it, and where an app's instances may run.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Memory, Span};

/// A document of kind `Host`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostManifest {
    /// Always `Host`.
    pub kind: String,
    /// A DNS label of at most 40 characters, without `--`. `local` is the machine that Weir runs on.
    pub name: String,
    pub spec: HostSpec,
}

/// A machine with a Docker Engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostSpec {
    /// `unix:///PATH`, `tcp://ADDRESS:PORT` or `ssh://USER@ADDRESS[:PORT]`; of a device `device`. Of
    /// the host `local` the server's settings say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Who proves to whom what it is, with `tcp://`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<EngineTlsSpec>,
    /// The key and the known hosts of `ssh://`; left out, those of the user that Weir runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<EngineSshSpec>,
    /// Allows `tcp://` without TLS to another machine: whoever reaches the port is root there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// The IP address of the host on which its instances are published and reached; left out, the
    /// engine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What apps choose hosts by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The addresses at which end users reach its region, for failover policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public_addresses: Vec<String>,
    pub capacity: CapacitySpec,
    /// Keeps what it has and gets nothing new.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// Gets nothing new, and what it has moves to other hosts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    pub disconnect: DisconnectSpec,
}

impl HostSpec {
    /// What `engine` says of a device.
    pub const DEVICE: &str = "device";
}

/// The certificates of a connection to an engine, as PEM files on Weir's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineTlsSpec {
    /// The authority of the engine's certificate.
    #[schema(value_type = String)]
    pub ca_file: PathBuf,
    /// What Weir shows to the engine.
    #[schema(value_type = String)]
    pub cert_file: PathBuf,
    #[schema(value_type = String)]
    pub key_file: PathBuf,
}

/// How SSH logs in, as files on Weir's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSshSpec {
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts_file: Option<PathBuf>,
}

/// How much may be placed on a host; what is left out is not limited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CapacitySpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// CPU cores, as the sum of the apps' `resources.cpus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// The sum of the apps' `resources.memory`.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// What happens when a host does not answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DisconnectSpec {
    /// Silent for this long, it is `disconnected`.
    #[schema(value_type = String)]
    pub after: Span,
    /// Silent for this long, it is `lost`.
    #[schema(value_type = String)]
    pub lost_after: Span,
    /// Whether what a lost host had is started elsewhere.
    pub replace: bool,
}

impl Default for DisconnectSpec {
    fn default() -> Self {
        Self {
            after: Span(Duration::from_secs(30)),
            lost_after: Span(Duration::from_secs(60)),
            replace: true,
        }
    }
}

/// Where an app's instances may run: on the hosts of which all of this holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlacementSpec {
    /// Labels that a host must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// In so many regions at least, as long as there are so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<u16>,
    /// A shard whose `hosts` it must be one of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
}
