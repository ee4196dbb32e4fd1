//! Which of an app's endpoints a request goes to.

use weir_config::{Endpoint, InstanceId};

/// The less busy of two endpoints taken at random: nearly as even as looking at all of them, and
/// without the herd that a stale "least busy" attracts. Endpoints that this request failed to
/// connect to come last.
pub(crate) fn pick(endpoints: &[Endpoint], failed: &[InstanceId]) -> usize {
    let count = endpoints.len();
    if count < 2 {
        return 0;
    }
    if !failed.is_empty() {
        let untried = |i: &usize| !failed.contains(&endpoints[*i].instance);
        let least = (0..count).filter(untried).min_by_key(|i| endpoints[*i].in_flight.count());
        if let Some(least) = least {
            return least;
        }
    }
    let random = rand::random::<u64>();
    let one = (random as u32) as usize % count;
    let other = (one + 1 + (random >> 32) as usize % (count - 1)) % count;
    match endpoints[other].in_flight.count() < endpoints[one].in_flight.count() {
        true => other,
        false => one,
    }
}

#[cfg(test)]
mod tests {
    use weir_config::Activity;

    use super::*;

    fn endpoints(count: u16) -> Vec<Endpoint> {
        let activity = Activity::default();
        let instance = |ordinal| InstanceId { app: "a".parse().unwrap(), deployment: 1, ordinal };
        (0..count)
            .map(instance)
            .map(|instance| Endpoint {
                address: "127.0.0.1:1".parse().unwrap(),
                in_flight: activity.instance(&instance),
                instance,
            })
            .collect()
    }

    #[test]
    fn the_less_busy_of_two_is_picked() {
        let endpoints = endpoints(2);
        let _lease = endpoints[0].in_flight.begin();
        assert!((0..100).all(|_| pick(&endpoints, &[]) == 1));
    }

    #[test]
    fn every_idle_endpoint_gets_its_share() {
        let endpoints = endpoints(5);
        let mut picked = [0; 5];
        (0..5000).for_each(|_| picked[pick(&endpoints, &[])] += 1);
        assert!(picked.iter().all(|n| (800..1200).contains(n)), "{picked:?}");
    }

    #[test]
    fn one_that_failed_is_picked_only_when_all_have() {
        let endpoints = endpoints(3);
        let failed: Vec<_> = endpoints.iter().map(|e| e.instance.clone()).collect();
        assert!((0..100).all(|_| pick(&endpoints, &failed[..2]) == 2));
        assert!((0..100).any(|_| pick(&endpoints, &failed) != 2));
    }
}
