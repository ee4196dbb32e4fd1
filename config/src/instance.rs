//! Who answers requests, and how deep an app sleeps.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AppName, FailoverName, HostName, MemberName, ShardName, TargetName};

/// One copy of one deployment of an app: the identity that a container, an endpoint and a log line
/// share, before and after a crash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    pub app: AppName,
    /// The deployment's number within the app, from 1.
    pub deployment: u64,
    /// The copy's number within the deployment, from 0.
    pub ordinal: u16,
    /// Where it runs. The same copy on another host is another instance, with a container of the
    /// same name in another engine.
    #[serde(default = "HostName::local")]
    pub host: HostName,
}

impl InstanceId {
    /// The deterministic name of the instance's container: `weir-<app>-<deployment>-<ordinal>`.
    pub fn container_name(&self) -> String {
        format!("weir-{}-{}-{}", self.app, self.deployment, self.ordinal)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.app, self.deployment, self.ordinal)?;
        if self.host.is_local() { Ok(()) } else { write!(f, "@{}", self.host) }
    }
}

/// A server that something else keeps running: the same before and after its address changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId {
    pub of: MemberOf,
    pub name: MemberName,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemberOf {
    App(AppName),
    Shard(ShardName),
    /// Its addresses are the members of a target.
    Target {
        policy: FailoverName,
        target: TargetName,
    },
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            MemberOf::App(app) => write!(f, "{app}/{}", self.name),
            MemberOf::Shard(shard) => write!(f, "shard/{shard}/{}", self.name),
            MemberOf::Target { policy, target } => {
                write!(f, "failover/{policy}/{target}/{}", self.name)
            }
        }
    }
}

/// Who answers a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EndpointId {
    Instance(InstanceId),
    Member(MemberId),
}

impl EndpointId {
    pub fn instance(&self) -> Option<&InstanceId> {
        match self {
            Self::Instance(instance) => Some(instance),
            Self::Member(_) => None,
        }
    }

    /// The target of a failover policy whose endpoint it is, if it is one's.
    pub fn target(&self) -> Option<&TargetName> {
        match self {
            Self::Member(MemberId { of: MemberOf::Target { target, .. }, .. }) => Some(target),
            _ => None,
        }
    }
}

impl From<InstanceId> for EndpointId {
    fn from(instance: InstanceId) -> Self {
        Self::Instance(instance)
    }
}

impl From<MemberId> for EndpointId {
    fn from(member: MemberId) -> Self {
        Self::Member(member)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(instance) => instance.fmt(f),
            Self::Member(member) => member.fmt(f),
        }
    }
}

/// How connections to an endpoint are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reach {
    /// From this machine to its address.
    #[default]
    Direct,
    /// Through the connection of the device that it is on; the address is as seen from there.
    Device,
}

/// How an app sleeps: deeper frees more and wakes slower.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SleepLevel {
    /// Frozen in memory: no CPU, wakes in tens of milliseconds.
    Paused,
    /// The process is gone; its container is kept: no memory, wakes in hundreds of milliseconds.
    Stopped,
}

impl SleepLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for SleepLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
