//! What a change, a plan or an event is about.

use std::fmt;

use weir_config::{AppName, EndpointId, FailoverName, MemberOf, ShardName, ZoneName};

/// An object that is planned for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    Shard(ShardName),
    /// Before the apps and zones that are served by it.
    Policy(FailoverName),
    App(AppName),
    Zone(ZoneName),
}

impl From<&EndpointId> for Subject {
    /// Whose endpoint it is.
    fn from(endpoint: &EndpointId) -> Self {
        match endpoint {
            EndpointId::Instance(instance) => Self::App(instance.app.clone()),
            EndpointId::Member(member) => match &member.of {
                MemberOf::App(app) => Self::App(app.clone()),
                MemberOf::Shard(shard) => Self::Shard(shard.clone()),
                MemberOf::Target { policy, .. } => Self::Policy(policy.clone()),
            },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shard(name) => write!(f, "Shard/{name}"),
            Self::Policy(name) => write!(f, "FailoverPolicy/{name}"),
            Self::App(name) => write!(f, "App/{name}"),
            Self::Zone(name) => write!(f, "Zone/{name}"),
        }
    }
}
