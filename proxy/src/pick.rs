//! Which of an app's endpoints a request goes to.

use weir_config::{Endpoint, EndpointId};

/// The less busy of two endpoints taken at random: nearly as even as looking at all of them, and
/// without the herd that a stale "least busy" attracts. Endpoints that this request failed to
/// connect to come last.
pub(crate) fn pick<'a>(endpoints: &'a [Endpoint], failed: &[EndpointId]) -> Option<&'a Endpoint> {
    let count = endpoints.len();
    if count < 2 {
        return endpoints.first();
    }
    if !failed.is_empty() {
        let untried = endpoints.iter().filter(|endpoint| !failed.contains(&endpoint.id));
        let least = untried.min_by_key(|endpoint| endpoint.activity.in_flight());
        if least.is_some() {
            return least;
        }
    }
    let random = rand::random::<u64>();
    let one = (random as u32) as usize % count;
    let other = (one + 1 + (random >> 32) as usize % (count - 1)) % count;
    let (one, other) = (&endpoints[one], &endpoints[other]);
    Some(if other.activity.in_flight() < one.activity.in_flight() { other } else { one })
}

#[cfg(test)]
mod tests {
    use weir_config::{Activity, InstanceId};

    use super::*;

    fn endpoints(count: u16) -> Vec<Endpoint> {
        let activity = Activity::default();
        let app = || "a".parse().unwrap();
        (0..count)
            .map(|ordinal| InstanceId { app: app(), deployment: 1, ordinal }.into())
            .map(|id| Endpoint {
                address: "127.0.0.1:1".parse().unwrap(),
                activity: activity.endpoint(&id),
                id,
                weight: 1,
                ready_since: Default::default(),
            })
            .collect()
    }

    fn picked(endpoints: &[Endpoint], failed: &[EndpointId]) -> usize {
        let picked = pick(endpoints, failed).unwrap();
        endpoints.iter().position(|endpoint| endpoint == picked).unwrap()
    }

    #[test]
    fn the_less_busy_of_two_is_picked() {
        let endpoints = endpoints(2);
        let _lease = endpoints[0].activity.begin();
        assert!((0..100).all(|_| picked(&endpoints, &[]) == 1));
    }

    #[test]
    fn every_idle_endpoint_gets_its_share() {
        let endpoints = endpoints(5);
        let mut shares = [0; 5];
        (0..5000).for_each(|_| shares[picked(&endpoints, &[])] += 1);
        assert!(shares.iter().all(|n| (800..1200).contains(n)), "{shares:?}");
    }

    #[test]
    fn one_that_failed_is_picked_only_when_all_have() {
        let endpoints = endpoints(3);
        let failed: Vec<_> = endpoints.iter().map(|e| e.id.clone()).collect();
        assert!((0..100).all(|_| picked(&endpoints, &failed[..2]) == 2));
        assert!((0..100).any(|_| picked(&endpoints, &failed) != 2));
    }
}
