//! A policy as it is served.

use std::{net::IpAddr, sync::Arc};

use super::{Buckets, Steering, TargetPlace};
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
    pub place: TargetPlace,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Activity, Balance, Endpoint, EndpointId, LastGood, MemberId, MemberOf, Moment, Reach,
        Shares, Snapshot,
    };

    fn target(name: &str, address: &str, activity: &Activity) -> SteeredTarget {
        let (policy, target) = ("shop".parse().unwrap(), name.parse().unwrap());
        let of = MemberOf::Target { policy, target };
        let id = EndpointId::from(MemberId { of, name: address.parse().unwrap() });
        let endpoint = Endpoint {
            activity: activity.endpoint(&id),
            id,
            address: format!("{address}:443").parse().unwrap(),
            reach: Reach::Direct,
            weight: 1,
            ready_since: Moment::default(),
        };
        let pool = Arc::new(Pool::new(vec![endpoint], Balance::default()));
        let place = TargetPlace::Cdn(format!("{name}.cdn.test").parse().unwrap());
        SteeredTarget { name: name.parse().unwrap(), place, pool, is_down: name == "b" }
    }

    fn steering(weights: &[u64]) -> Steering {
        let ttl = Duration::from_secs(30);
        Steering { epoch: 7, shares: Shares::by_weight(weights), ttl }
    }

    #[test]
    fn it_is_the_same_after_a_restart() {
        let activity = Activity::default();
        let targets = [("a", "192.0.2.1"), ("b", "192.0.2.2")]
            .map(|(name, address)| target(name, address, &activity));
        let steered = Steered::new("shop".parse().unwrap(), targets.to_vec(), steering(&[1, 3]));
        let mut snapshot = Snapshot::default();
        snapshot.insert_policy(Arc::new(steered.clone()));
        let saved = serde_json::to_string(&LastGood::of(&snapshot, "boot")).unwrap();
        let saved: LastGood = serde_json::from_str(&saved).unwrap();
        let restored = saved.restore(&activity, "another boot");
        assert_eq!(**restored.policy(&steered.policy).unwrap(), steered);
        // By a Weir that knew of no policies.
        let before: LastGood = serde_json::from_value({
            let mut saved = serde_json::to_value(LastGood::of(&snapshot, "boot")).unwrap();
            saved.as_object_mut().unwrap().remove("policies");
            saved
        })
        .unwrap();
        assert_eq!(before.restore(&activity, "boot").policies().count(), 0);
    }

    #[test]
    fn buckets_are_made_anew_where_shares_or_targets_are_others() {
        let activity = Activity::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| target(name, "192.0.2.1", &activity));
        let first =
            Steered::new("shop".parse().unwrap(), vec![a.clone(), b.clone()], steering(&[1, 1]));
        let is_kept = |steered: &Steered| Arc::ptr_eq(&steered.buckets, &first.buckets);
        assert!(is_kept(&first.steer(vec![a.clone(), b.clone()], steering(&[1, 1]))));
        let others = first.steer(vec![a.clone(), c.clone()], steering(&[1, 1]));
        assert!(!is_kept(&others));
        let shifted = first.steer(vec![a.clone(), b.clone()], steering(&[0, 1]));
        assert_eq!(shifted.target("192.0.2.1".parse().unwrap()).unwrap().name, b.name);
        assert!(!is_kept(&shifted));
    }
}
