//! Apps that are woken by a handshake, before a request is there.

use futures::{StreamExt, stream};
use prometheus::{core::Collector, proto::Metric};
use weir_config::{RouteState, SleepLevel};

use crate::{
    harness::{Hint, World, eventually},
    upstreams::Echo,
};

fn sleeping() -> RouteState {
    RouteState::Asleep(SleepLevel::Paused)
}

fn eager() -> World {
    World::with(|settings| settings.speculative_wake = true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_wakes_the_app_before_a_request_is_sent() {
    let mut world = eager();
    let echo = Echo::start("blog").await;
    world.serve("blog", sleeping());
    let raw = world.raw("blog.apps.test").await;
    assert_eq!(world.hint().await, Hint::wake("blog"));
    assert_eq!((world.app("blog").held(), echo.hits()), (0, 0));
    assert_eq!(world.early_wakes(), [1, 0, 0, 0]);

    // The request finds it awake, and is what the wake was for.
    world.serve("blog", world.serving("blog", echo.address));
    let mut raw = raw;
    raw.send("GET / HTTP/1.1\r\nHost: blog.apps.test\r\nConnection: close\r\n\r\n").await;
    assert!(raw.read_to_end().await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.early_wakes(), [1, 1, 0, 0]);
    assert!(world.hints.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_other_names_wake_nothing() {
    let mut world = eager();
    let echo = Echo::start("awake").await;
    world.serve("blog", sleeping());
    world.serve("awake", world.serving("awake", echo.address));
    let names = (0..10_000).map(|i| match i % 3 {
        0 => "awake.apps.test".to_owned(),
        1 => format!("x{i}.blog.apps.test"),
        _ => format!("x{i}.apps.test"),
    });
    stream::iter(names)
        .for_each_concurrent(64, |name| {
            let world = &world;
            async move { world.hello(&name).await }
        })
        .await;
    assert!(world.hints.is_empty());
    assert_eq!(world.early_wakes(), [0, 0, 0, 0]);
    // Only then, so that the hints were heard at all.
    world.hello("blog.apps.test").await;
    assert_eq!(world.hint().await, Hint::wake("blog"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_wakes_a_few_of_many() {
    let mut world = eager();
    for i in 0..100 {
        world.serve(&format!("app{i}"), sleeping());
    }
    for i in 0..100 {
        world.hello(&format!("app{i}.apps.test")).await;
    }
    let [issued, hits, wasted, refused] = world.early_wakes();
    assert!((1..=5).contains(&issued), "{issued}");
    assert_eq!((hits, wasted), (0, 0));
    assert!(refused > 80, "{refused}");
    assert_eq!(world.hints.len() as u64, issued);

    // A request wakes its app in any case.
    let sent = tokio::spawn(world.h1().get(world.url("app99", "/")).send());
    let app = world.app("app99");
    eventually("it is held", || app.held() == 1).await;
    while world.hint().await != Hint::wake("app99") {}
    sent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_turned_off() {
    // As it is in all the other tests.
    let mut world = World::start();
    world.serve("blog", sleeping());
    world.hello("blog.apps.test").await;
    assert!(world.hints.is_empty());
}

impl World {
    /// A handshake for a name up to the server's answer, and no further.
    async fn hello(&self, server_name: &str) {
        // The certificate need not be for that name.
        let _ = self.tls().connect(self.https, server_name).await;
    }

    /// How many wakes were issued, used, wasted and refused.
    fn early_wakes(&self) -> [u64; 4] {
        let families = self.metrics.collect();
        let wakes = families.iter().find(|f| f.name() == "weir_speculative_wakes_total").unwrap();
        ["issued", "used", "wasted", "refused"].map(|event| {
            let of_event = |metric: &&Metric| metric.get_label()[0].value() == event;
            let metric = wakes.get_metric().iter().find(of_event).unwrap();
            metric.get_counter().value() as u64
        })
    }
}
