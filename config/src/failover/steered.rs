//! A policy as it is served.

use std::{net::IpAddr, sync::Arc};

use super::{Buckets, Steering};
use crate::{FailoverName, Pool, TargetName};

/// Who gets which clients of a policy's host names, until further notice.
#[derive(Clone, Debug, PartialEq)]
pub struct Steered {
    pub policy: FailoverName,
    /// In the order of preference, which is that of the shares.
    pub targets: Vec<SteeredTarget>,
    pub steering: Steering,
    pub buckets: Arc<Buckets>,
}

/// One that can serve the names.
#[derive(Clone, Debug, PartialEq)]
pub struct SteeredTarget {
    pub name: TargetName,
    /// One endpoint for each of its addresses, with the port of its check.
    pub pool: Arc<Pool>,
    /// Whether a quorum says that it does not answer: nobody tries it in another one's stead.
    pub is_down: bool,
}

impl Steered {
    /// Finds out whose each bucket is, which takes some milliseconds.
    pub fn new(policy: FailoverName, targets: Vec<SteeredTarget>, steering: Steering) -> Self {
        let names: Vec<_> = targets.iter().map(|target| &*target.name).collect();
        let buckets = Arc::new(Buckets::new(&names, &steering.shares));
        Self { policy, targets, steering, buckets }
    }

    /// The same targets by another steering. Where the shares are the same, so are the buckets.
    pub fn steer(&self, targets: Vec<SteeredTarget>, steering: Steering) -> Self {
        let names = |targets: &[SteeredTarget]| -> Vec<_> {
            targets.iter().map(|target| target.name.clone()).collect()
        };
        let is_same =
            self.steering.shares == steering.shares && names(&self.targets) == names(&targets);
        let policy = self.policy.clone();
        match is_same {
            true => Self { policy, targets, steering, buckets: self.buckets.clone() },
            false => Self::new(policy, targets, steering),
        }
    }

    /// The target that this client goes to; `None` if nobody has a share.
    pub fn target(&self, client: IpAddr) -> Option<&SteeredTarget> {
        self.targets.get(self.buckets.target(client)?)
    }

    /// The endpoints of one of its targets.
    pub fn pool(&self, target: &TargetName) -> Option<&Arc<Pool>> {
        self.targets.iter().find(|one| one.name == *target).map(|one| &one.pool)
    }
}
