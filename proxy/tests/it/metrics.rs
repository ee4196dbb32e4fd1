//! What a scrape shows.

use prometheus::{Registry, TextEncoder};
use weir_config::{RouteState, SleepLevel};

use crate::{
    harness::{World, eventually},
    upstreams::Echo,
};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_render_what_happened() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    let (client, app) = (world.h1(), world.app("blog"));
    world.serve("blog", RouteState::Asleep(SleepLevel::Paused));
    let first = tokio::spawn(client.get(world.url("blog", "/")).send());
    eventually("held", || app.held() == 1).await;
    world.serve("blog", world.serving("blog", echo.address));
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    world.serve("silent", RouteState::Starting);
    assert_eq!(client.get(world.url("nobody", "/")).send().await.unwrap().status(), 404);
    let waiting = tokio::spawn(client.get(world.url("silent", "/")).send());
    let silent = world.app("silent");
    eventually("held", || silent.held() == 1).await;
    eventually("the first is over", || app.in_flight() == 0).await;

    world.serve_with("limited", &[echo.address], |policy| policy.limits.body = 1);
    let refused = client.post(world.url("limited", "/")).body("xx").send().await.unwrap();
    assert_eq!(refused.status(), 413);

    let registry = Registry::new();
    registry.register(Box::new(world.metrics)).unwrap();
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "# TYPE weir_requests_total counter",
        "weir_requests_total{app=\"blog\",code=\"2xx\"} 1",
        "# TYPE weir_request_duration_seconds histogram",
        "weir_request_duration_seconds_bucket{app=\"blog\",le=\"30\"} 1",
        "weir_request_duration_seconds_bucket{app=\"blog\",le=\"+Inf\"} 1",
        "weir_request_duration_seconds_count{app=\"blog\"} 1",
        "weir_wake_duration_seconds_count{app=\"blog\",from=\"paused\"} 1",
        "weir_requests_in_flight{app=\"silent\"} 1",
        "weir_requests_held{app=\"silent\"} 1",
        "weir_requests_unrouted_total{reason=\"unknown_host\"} 1",
        "weir_requests_unrouted_total{reason=\"misdirected\"} 0",
        "weir_requests_refused_total{app=\"limited\",limit=\"body\"} 1",
        "weir_snapshot_generation 5",
        "weir_hosts 3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    }
    for absent in ["from=\"stopped\"", "weir_requests_in_flight{app=\"blog\"}", "code=\"5xx\""] {
        assert!(!text.contains(absent), "{absent} is in:\n{text}");
    }
    waiting.abort();
}
