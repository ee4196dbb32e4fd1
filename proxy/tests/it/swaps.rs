//! Publishing under load: no request fails, and none reaches an instance that has been drained.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use tokio::task::JoinSet;

use crate::{
    harness::{World, eventually, serving},
    upstreams::{Echo, hangs_up},
};

/// Clients that ask as fast as they can, until they are told to stop.
struct Load {
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(world: &World) -> Self {
        let (answered, failed, stop) = (
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::default(),
            Arc::<AtomicBool>::default(),
        );
        let mut clients = JoinSet::new();
        for client in [world.h1(), world.h1(), world.h1(), world.h2()] {
            for method in [reqwest::Method::GET, reqwest::Method::POST] {
                let (client, url) = (client.clone(), world.url("blog", "/"));
                let (answered, failed, stop) = (answered.clone(), failed.clone(), stop.clone());
                clients.spawn(async move {
                    while !stop.load(SeqCst) {
                        let request = client.request(method.clone(), &url).body("body");
                        let ok = match request.send().await {
                            Ok(response) => {
                                response.status() == 200 && response.text().await.is_ok()
                            }
                            Err(_) => false,
                        };
                        failed.fetch_add(u64::from(!ok), SeqCst);
                        answered.fetch_add(1, SeqCst);
                    }
                });
            }
        }
        Self { answered, failed, stop, clients }
    }

    /// Waits until at least one more request has ended.
    async fn progress(&self) {
        let before = self.answered.load(SeqCst);
        eventually("another request ends", || self.answered.load(SeqCst) > before).await;
    }

    async fn stop(self) -> (u64, u64) {
        self.stop.store(true, SeqCst);
        self.clients.join_all().await;
        (self.answered.load(SeqCst), self.failed.load(SeqCst))
    }
}

fn publish(world: &mut World, ordinal: u16, address: SocketAddr) {
    let endpoint = world.endpoint("blog", ordinal, address);
    world.serve("blog", serving([endpoint]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_swaps_fail_no_request_and_a_drained_instance_gets_none() {
    let mut world = World::start();
    let instances = [Echo::start("a").await, Echo::start("b").await];
    publish(&mut world, 0, instances[0].address);
    let load = Load::start(&world);
    for swap in 1..=1000 {
        let (new, old) = (swap % 2, (swap + 1) % 2);
        publish(&mut world, new as u16, instances[new].address);
        // As control would before it stops an instance.
        let in_flight = world.in_flight_on("blog", old as u16);
        eventually("the old instance is drained", || in_flight.in_flight() == 0).await;
        let drained_at = instances[old].hits();
        load.progress().await;
        assert_eq!(instances[old].hits(), drained_at, "a drained instance got a request");
    }
    let (answered, failed) = load.stop().await;
    assert_eq!(failed, 0, "of {answered} requests");
    assert!(answered >= 1000, "{answered}");
    assert_eq!(instances[0].hits() + instances[1].hits(), answered);
}

/// The harness above would notice.
#[tokio::test(flavor = "multi_thread")]
async fn negative_control_an_instance_that_hangs_up_is_counted_as_failures() {
    let mut world = World::start();
    let (good, bad) = (Echo::start("a").await, hangs_up().await);
    publish(&mut world, 0, good.address);
    let load = Load::start(&world);
    load.progress().await;
    publish(&mut world, 1, bad);
    eventually("a request fails", || load.failed.load(SeqCst) > 0).await;
    publish(&mut world, 0, good.address);
    load.progress().await;
    let (_, failed) = load.stop().await;
    assert!(failed > 0);
}
