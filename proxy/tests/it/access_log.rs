//! One line for each request.

use weir_config::{RouteState, SleepLevel};

use crate::{
    harness::{World, eventually, logged},
    upstreams::Echo,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_logged_with_what_became_of_it_and_without_its_query() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", RouteState::Asleep(SleepLevel::Paused));
    let app = world.app("blog");
    let url = world.url("blog", "/log/woken?token=secret");
    let sent = tokio::spawn(world.h2().get(url).send());
    eventually("held", || app.held() == 1).await;
    world.serve("blog", world.serving("blog", echo.address));
    let answer = sent.await.unwrap().unwrap().text().await.unwrap();

    let entry = logged("/log/woken").await;
    let host = format!("blog.apps.test:{}", world.https.port());
    for (field, value) in [
        ("target", "access"),
        ("method", "GET"),
        ("host", host.as_str()),
        ("app", "blog"),
        ("instance", "blog-1-0"),
        ("wake", "paused"),
        ("client_ip", "127.0.0.1"),
        ("protocol", "HTTP/2"),
    ] {
        assert_eq!(entry[field], value, "{field} in {entry}");
    }
    assert_eq!((&entry["status"], &entry["generation"]), (&200.into(), &3.into()));
    assert_eq!(entry["bytes_sent"], answer.len());
    assert!(entry["duration_ms"].as_f64().unwrap() >= entry["held_ms"].as_f64().unwrap());
    assert!(answer.contains(entry["request_id"].as_str().unwrap()), "{entry}");
    assert!(!entry.to_string().contains("secret"), "{entry}");
    assert!(entry.get("error").is_none(), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_failed_is_logged_with_its_error() {
    let world = World::start();
    world.h1().get(world.url("nobody", "/log/unknown")).send().await.unwrap();
    let entry = logged("/log/unknown").await;
    assert_eq!((&entry["status"], &entry["wake"]), (&404.into(), &"none".into()));
    assert!(entry.get("app").is_none(), "{entry}");

    let mut world = world;
    world.serve("blog", RouteState::Starting);
    let app = world.app("blog");
    let sent = tokio::spawn(world.h2().get(world.url("blog", "/log/gone")).send());
    eventually("held", || app.held() == 1).await;
    sent.abort();
    let entry = logged("/log/gone").await;
    assert_eq!((&entry["status"], &entry["app"]), (&499.into(), &"blog".into()));
    assert!(entry["error"].as_str().unwrap().contains("the client left"), "{entry}");
}
