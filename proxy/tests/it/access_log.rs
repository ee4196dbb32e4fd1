//! One line for each request.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::Value;
use weir_config::{RouteState, SleepLevel};

use crate::{
    connections::connect_from,
    harness::{World, eventually, lines, logged},
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

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_makes_no_request_is_logged_too() {
    let world = World::with(|settings| settings.header_timeout = Duration::from_millis(300));
    let large = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(65 << 10));
    for (before, header, status) in [
        (0, "NONSENSE\r\n\r\n", 400),
        (1, "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (2, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        (3, "GET / HTTP/1.1\r\n", 408),
        (4, &large, 431),
    ] {
        // An address that no other test comes from.
        let client = [127, 0, 9, before];
        let mut raw = connect_from(client, world.http).await;
        for _ in 0..before {
            raw.send("GET / HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n").await;
            raw.read_until("\r\n\r\n").await;
        }
        raw.send(header).await;
        let answer = raw.read_to_end().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let client = Ipv4Addr::from(client).to_string();
        let lines = || lines().filter(|line| line["client_ip"] == *client);
        eventually("all is logged", || lines().count() > usize::from(before)).await;
        let line = lines().find(|line| line["path"].is_null()).unwrap();
        assert_eq!(
            (&line["status"], &line["connection_requests"]),
            (&status.into(), &(before + 1).into())
        );
        assert_eq!((&line["method"], &line["scheme"]), (&Value::Null, &"http".into()));
        assert!(line["error"].as_str().unwrap().contains("header"), "{line}");
    }
}
