//! Where the time of a request went: in the log for those that took long, and for whoever asks.

use std::time::Duration;

use serde_json::Value;
use weir_config::{RouteState, SleepLevel};

use crate::{
    harness::{World, eventually, lines, logged, logged_with, serving},
    upstreams::{Echo, Refusing, received},
};

fn documented_fields() -> Vec<String> {
    let text = include_str!("../../../docs/observability.md");
    let section = text.split("## Timeline").nth(1).unwrap().split("\n## ").next().unwrap();
    let row = |line: &str| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned());
    section.lines().filter_map(row).collect()
}

async fn timeline_of(path: &str) -> Value {
    let request_id = logged(path).await["request_id"].as_str().unwrap().to_owned();
    logged_with("request_id", &request_id, "timeline").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_woke_its_app_tells_where_its_time_went() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", RouteState::Asleep(SleepLevel::Paused));
    let app = world.app("blog");
    let sent = world.h2().post(world.url("blog", "/timeline/woken")).body("x").send();
    let sent = tokio::spawn(sent);
    eventually("held", || app.held() == 1).await;
    world.serve("blog", world.serving("blog", echo.address));
    assert_eq!(sent.await.unwrap().unwrap().status(), 200);

    let entry = timeline_of("/timeline/woken").await;
    assert_eq!((&entry["app"], &entry["wake"]), (&"blog".into(), &"paused".into()));
    assert_eq!((&entry["client_family"], &entry["reused"]), (&"ipv4".into(), &false.into()));
    assert_eq!(entry["attempts"], 1);
    let marks = [
        "held_ms",
        "admitted_ms",
        "connect_begun_ms",
        "connected_ms",
        "sent_ms",
        "first_byte_ms",
        "end_ms",
    ]
    .map(|mark| entry[mark].as_f64().unwrap_or_else(|| panic!("no {mark} in {entry}")));
    assert!(marks[0] > 0.0 && marks.is_sorted(), "{entry}");
    assert!(entry["connection_age_ms"].as_f64().unwrap() > 0.0, "{entry}");
    let documented = documented_fields();
    for field in entry.as_object().unwrap().keys() {
        assert!(documented.contains(field), "{field} is not documented");
    }
    for field in documented {
        assert!(entry.get(&field).is_some() || field == "error", "{field} is not written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_tried_twice_or_waited_long_tells_and_others_do_not() {
    let mut world = World::start_with_slow_request(Duration::from_millis(100));
    let (dead, echo) = (Refusing::start(), Echo::start_closed("alive").await);
    world.serve("slow", world.serving("slow", echo.address));
    let slow = tokio::spawn(world.h1().get(world.url("slow", "/timeline/slow")).send());
    eventually("the app has it", || echo.hits() == 1).await;
    tokio::time::sleep(Duration::from_millis(110)).await;
    echo.open();
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    let entry = timeline_of("/timeline/slow").await;
    assert!(entry["first_byte_ms"].as_f64().unwrap() >= 100.0, "{entry}");

    assert_eq!(
        world.h1().get(world.url("slow", "/timeline/quick")).send().await.unwrap().status(),
        200
    );
    let quick = logged("/timeline/quick").await;

    let alive = world.endpoint("twice", 1, echo.address);
    let _busy = alive.activity.begin();
    world.serve("twice", serving([world.endpoint("twice", 0, dead.address()), alive]));
    assert_eq!(
        world.h1().get(world.url("twice", "/timeline/twice")).send().await.unwrap().status(),
        200
    );
    assert_eq!(timeline_of("/timeline/twice").await["attempts"], 2);
    let of_quick = lines()
        .any(|line| line["target"] == "timeline" && line["request_id"] == quick["request_id"]);
    assert!(!of_quick, "a quick request has no timeline");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_told_the_generation_and_where_the_time_went() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    for client in [world.h1(), world.h2()] {
        let url = world.url("blog", "/");
        let response = client.get(&url).header("Weir-Debug", "1").send().await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("weir-generation"), "2");
        let timing = header("server-timing");
        for part in ["held;dur=0", "connect;dur=", "app;dur=", "total;dur="] {
            assert!(timing.contains(part), "{timing}");
        }
        let request_id = header("x-request-id");
        let echoed: Value = response.json().await.unwrap();
        assert_eq!(received(&echoed, "x-request-id"), [request_id]);
        assert_eq!(received(&echoed, "weir-debug"), [""; 0], "the app does not see it");

        let response = client.get(&url).send().await.unwrap();
        for name in ["weir-generation", "server-timing", "x-request-id"] {
            assert!(!response.headers().contains_key(name), "{name} was not asked for");
        }
    }
}
