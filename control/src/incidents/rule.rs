//! The rules by name, and how long each waits.

use std::time::Duration;

/// By which rule something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    AppUnhealthy,
    CertificateExpiring,
    CertificateFailed,
    CertificateLimited,
    CrashLoop,
    DeploymentFailed,
    Failover,
    HostLost,
    ObjectUnreadable,
    SnapshotHeld,
    SnapshotQuarantined,
    SnapshotRefused,
    StoreFull,
    WakeFailed,
}

impl Rule {
    pub(crate) const ALL: [Self; 14] = [
        Self::AppUnhealthy,
        Self::CertificateExpiring,
        Self::CertificateFailed,
        Self::CertificateLimited,
        Self::CrashLoop,
        Self::DeploymentFailed,
        Self::Failover,
        Self::HostLost,
        Self::ObjectUnreadable,
        Self::SnapshotHeld,
        Self::SnapshotQuarantined,
        Self::SnapshotRefused,
        Self::StoreFull,
        Self::WakeFailed,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AppUnhealthy => "app-unhealthy",
            Self::CertificateExpiring => "certificate-expiring",
            Self::CertificateFailed => "certificate-failed",
            Self::CertificateLimited => "certificate-limited",
            Self::CrashLoop => "crash-loop",
            Self::DeploymentFailed => "deployment-failed",
            Self::Failover => "failover",
            Self::HostLost => "host-lost",
            Self::ObjectUnreadable => "object-unreadable",
            Self::SnapshotHeld => "snapshot-held",
            Self::SnapshotQuarantined => "snapshot-quarantined",
            Self::SnapshotRefused => "snapshot-refused",
            Self::StoreFull => "store-full",
            Self::WakeFailed => "wake-failed",
        }
    }
}

impl Rule {
    /// For so long it must be seen, so that a blink opens nothing.
    pub(super) fn confirmed_after(self) -> Duration {
        Duration::from_secs(match self {
            Self::CrashLoop
            | Self::Failover
            | Self::SnapshotHeld
            | Self::SnapshotQuarantined
            | Self::ObjectUnreadable => 0,
            Self::CertificateExpiring
            | Self::CertificateFailed
            | Self::CertificateLimited
            | Self::StoreFull => 1,
            Self::AppUnhealthy
            | Self::DeploymentFailed
            | Self::HostLost
            | Self::SnapshotRefused
            | Self::WakeFailed => 5,
        })
    }

    /// For so long it must be gone.
    pub(super) fn resolved_after(self) -> Duration {
        Duration::from_secs(match self {
            Self::SnapshotHeld
            | Self::ObjectUnreadable
            | Self::CertificateExpiring
            | Self::CertificateFailed
            | Self::CertificateLimited => 0,
            // Its last lines are still to be written.
            Self::Failover => 5,
            _ => 10,
        })
    }
}
