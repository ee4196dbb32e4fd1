//! The one published value: who may swap it, who may read it, and how a request holds on to it.

use std::sync::{
    Arc,
    atomic::{Ordering::SeqCst, fence},
};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::{AppRoute, Endpoint, EndpointLease, Lease, RouteState, Snapshot};

/// Makes the two ends of the one place where control and data plane meet.
pub fn channel(initial: Snapshot) -> (Publisher, Snapshots) {
    let (generations, watched) = watch::channel(initial.generation);
    let current = Arc::new(ArcSwap::from_pointee(initial));
    (Publisher { current: current.clone(), generations }, Snapshots { current, watched })
}

/// The only way to change what is served. Not `Clone`: it belongs to the control loop.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    generations: watch::Sender<u64>,
}

/// A snapshot that is not newer than the one served was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("generation {offered} is not newer than the served generation {served}")]
pub struct StaleGeneration {
    pub served: u64,
    pub offered: u64,
}

impl Publisher {
    /// Swaps the served snapshot. When this returns, every request that starts sees the new one.
    ///
    /// # Errors
    /// [`StaleGeneration`], and nothing changes, unless the generation has grown.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) -> Result<(), StaleGeneration> {
        let (served, offered) = (self.current.load().generation, snapshot.generation);
        if offered <= served {
            return Err(StaleGeneration { served, offered });
        }
        self.current.store(snapshot);
        self.generations.send_replace(offered);
        Ok(())
    }
}

/// Reads what is served, from any number of places, without a lock.
#[derive(Clone, Debug)]
pub struct Snapshots {
    current: Arc<ArcSwap<Snapshot>>,
    watched: watch::Receiver<u64>,
}

impl Snapshots {
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Waits until a generation newer than `seen` is served. Never returns if control is gone.
    pub async fn newer_than(&self, seen: u64) -> Arc<Snapshot> {
        let mut watched = self.watched.clone();
        if watched.wait_for(|generation| *generation > seen).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.current()
    }

    /// Waits until nobody can publish any more.
    pub async fn abandoned(&self) {
        // Only fails, since no generation is what is waited for.
        let _ = self.watched.clone().wait_for(|_| false).await;
    }

    /// Pins the served snapshot for a request to `host` and `path`, and counts the request as in
    /// flight on the app and on the endpoint that `pick` chooses, if it finds one.
    ///
    /// The counting comes before a second look at what is served. So once control has published a
    /// snapshot and then reads zero in flight, no request that pinned an older one is under way,
    /// and an instance can be stopped with nobody on it.
    pub fn admit(
        &self,
        host: &str,
        path: &str,
        pick: impl for<'a> Fn(&'a Snapshot, &'a AppRoute) -> Option<&'a Endpoint>,
    ) -> Admission {
        let mut snapshot = self.current.load();
        loop {
            let decision = decide(&snapshot, host, path, &pick);
            match self.second_look(snapshot.generation) {
                None => return Admission { generation: snapshot.generation, decision },
                Some(newer) => snapshot = newer,
            }
        }
    }

    /// Whether another generation than this is served by now. To be asked by those who have counted
    /// themselves in flight on what they found in it: if it is, their count may have come too late,
    /// and they must begin again.
    pub fn has_newer(&self, generation: u64) -> bool {
        self.second_look(generation).is_some()
    }

    fn second_look(&self, generation: u64) -> Option<Guard<Arc<Snapshot>>> {
        // For all counters that were counted up before; see `InFlight` in `activity`.
        fence(SeqCst);
        let newest = self.current.load();
        (newest.generation != generation).then_some(newest)
    }
}

fn decide(
    snapshot: &Snapshot,
    host: &str,
    path: &str,
    pick: impl for<'a> Fn(&'a Snapshot, &'a AppRoute) -> Option<&'a Endpoint>,
) -> Decision {
    let Some(route) = snapshot.route(host, path) else { return Decision::UnknownHost };
    let lease = route.activity.begin();
    match &route.state {
        RouteState::Serving(_) => match pick(snapshot, route) {
            Some(endpoint) => Decision::Forward {
                endpoint: endpoint.clone(),
                endpoint_lease: endpoint.activity.begin(),
                route: route.clone(),
                lease,
            },
            None => Decision::Refuse { route: route.clone(), lease },
        },
        RouteState::Asleep(_) | RouteState::Starting => {
            Decision::Hold { route: route.clone(), lease }
        }
        RouteState::Unavailable { .. } => Decision::Refuse { route: route.clone(), lease },
    }
}

/// A request with the generation that it is pinned to and what that says of it.
#[derive(Debug)]
pub struct Admission {
    pub generation: u64,
    pub decision: Decision,
}

/// What is to become of a request. The leases end when it is dropped.
#[derive(Debug)]
pub enum Decision {
    UnknownHost,
    Forward {
        route: Arc<AppRoute>,
        endpoint: Endpoint,
        lease: Lease,
        endpoint_lease: EndpointLease,
    },
    Hold {
        route: Arc<AppRoute>,
        lease: Lease,
    },
    Refuse {
        route: Arc<AppRoute>,
        lease: Lease,
    },
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        Activity, AppName, Backends, Balance, EndpointId, MemberId, MemberOf, Moment, Pool, Reach,
    };

    fn generation(generation: u64) -> Snapshot {
        Snapshot::empty(generation, 0, Arc::default())
    }

    #[tokio::test]
    async fn only_a_newer_generation_is_served_and_it_wakes_those_who_wait() {
        let (mut publisher, snapshots) = channel(generation(5));
        let stale = Arc::new(generation(5));
        let error = publisher.publish(stale).unwrap_err();
        assert_eq!(error, StaleGeneration { served: 5, offered: 5 });

        let waiting = tokio::spawn({
            let snapshots = snapshots.clone();
            async move { snapshots.newer_than(5).await.generation }
        });
        let next = Arc::new(generation(6));
        publisher.publish(next).unwrap();
        assert_eq!(waiting.await.unwrap(), 6);
        assert_eq!(snapshots.current().generation, 6);
        assert!(snapshots.has_newer(5) && !snapshots.has_newer(6));
    }

    fn serving(generation: u64, state: RouteState, activity: &Activity) -> Arc<Snapshot> {
        let mut snapshot = self::generation(generation);
        let (wake_timeout, queue) = AppRoute::wait_of(None);
        let app: AppName = "blog".parse().unwrap();
        snapshot.insert(AppRoute {
            activity: activity.app(&app),
            app,
            hostnames: vec!["blog.com".parse().unwrap()],
            state,
            policy: Arc::default(),
            wake_timeout,
            queue,
        });
        Arc::new(snapshot)
    }

    #[test]
    fn nobody_is_on_an_endpoint_that_is_published_no_more_and_has_nothing_in_flight() {
        let activity = Activity::default();
        let id = EndpointId::Member(MemberId {
            of: MemberOf::App("blog".parse().unwrap()),
            name: "one".parse().unwrap(),
        });
        let endpoint = Endpoint {
            activity: activity.endpoint(&id),
            id,
            address: ([127, 0, 0, 1], 80).into(),
            reach: Reach::Direct,
            weight: 1,
            ready_since: Moment(0),
        };
        let counters = endpoint.activity.clone();
        let pool = Arc::new(Pool::new(vec![endpoint], Balance::default()));
        let with = RouteState::Serving(Backends::Own(pool));
        let (mut publisher, snapshots) = channel(generation(0));
        let (is_stopped, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let requests = || {
            let mut forwarded = 0;
            while !is_over.load(Relaxed) {
                let admission = snapshots.admit("blog.com", "/", |_, route| match &route.state {
                    RouteState::Serving(Backends::Own(pool)) => pool.endpoints().first(),
                    _ => None,
                });
                if let Decision::Forward { .. } = &admission.decision {
                    assert!(!is_stopped.load(SeqCst), "a request is on a stopped instance");
                    forwarded += 1;
                }
            }
            forwarded
        };
        std::thread::scope(|scope| {
            let clients = [(); 3].map(|()| scope.spawn(requests));
            let (begun, mut round) = (Instant::now(), 0);
            // With the second look left out, this fails within one.
            while begun.elapsed() < Duration::from_secs(3) {
                let mut publish = |generation, state: &RouteState| {
                    publisher.publish(serving(generation, state.clone(), &activity)).unwrap();
                };
                publish(2 * round + 1, &with);
                std::thread::yield_now();
                publish(2 * round + 2, &RouteState::Starting);
                while counters.in_flight() > 0 {
                    std::thread::yield_now();
                }
                is_stopped.store(true, SeqCst);
                std::thread::yield_now();
                is_stopped.store(false, SeqCst);
                round += 1;
            }
            is_over.store(true, Relaxed);
            let forwarded: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
            assert!(forwarded > 0);
        });
    }
}
