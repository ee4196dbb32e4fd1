//! Which running copy of an app is meant, and how deep an app sleeps.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::AppName;

/// One copy of one deployment of an app: the identity that a container, an endpoint and a log line
/// share, before and after a crash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    pub app: AppName,
    /// The deployment's number within the app, from 1.
    pub deployment: u64,
    /// The copy's number within the deployment, from 0.
    pub ordinal: u16,
}

impl InstanceId {
    /// The deterministic name of the instance's container: `weir-<app>-<deployment>-<ordinal>`.
    pub fn container_name(&self) -> String {
        format!("weir-{}-{}-{}", self.app, self.deployment, self.ordinal)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.app, self.deployment, self.ordinal)
    }
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
