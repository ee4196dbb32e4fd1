//! What control may do to the world, as data: comparable in tests, printable for the operator.

use std::{fmt, time::Duration};

use weir_config::InstanceId;
use weir_deploy::ContainerSpec;

use crate::failure::Failure;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Create(ContainerSpec),
    Start(InstanceId),
    Pause(InstanceId),
    Unpause(InstanceId),
    Stop {
        instance: InstanceId,
        grace: Duration,
        why: StopReason,
    },
    /// Ends it as [`Action::Stop`] does if it runs, then removes its container.
    Remove {
        instance: InstanceId,
        grace: Duration,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StopReason {
    Sleep,
    /// Another deployment needs what it holds.
    MakesRoom,
    Failed(Failure),
    /// It failed before it was ever ready, and the engine would start it again and again.
    CrashLoop,
}

impl Action {
    pub(crate) fn instance(&self) -> &InstanceId {
        match self {
            Self::Create(spec) => &spec.instance,
            Self::Start(instance) | Self::Pause(instance) | Self::Unpause(instance) => instance,
            Self::Stop { instance, .. } | Self::Remove { instance, .. } => instance,
        }
    }

    /// The action's name, as in metrics and logs.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Start(_) => "start",
            Self::Pause(_) => "pause",
            Self::Unpause(_) => "unpause",
            Self::Stop { .. } => "stop",
            Self::Remove { .. } => "remove",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb(), self.instance())
    }
}
