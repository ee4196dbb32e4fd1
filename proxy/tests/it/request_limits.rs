//! What is turned away at the door.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use reqwest::{Body, header::RETRY_AFTER};
use weir_config::{Incident, Rate, RouteState, SleepLevel};

use crate::{
    harness::{Hint, World, eventually},
    upstreams::{Echo, web_socket},
};

/// Without an end that is told at its beginning.
fn streamed(pieces: usize) -> Body {
    let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1000]));
    Body::wrap_stream(stream::iter((0..pieces).map(move |_| piece())))
}

fn an_hour(burst: u32) -> Option<Rate> {
    Some(Rate { requests: 1, per: Duration::from_secs(3600), burst })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_it_is_too_large_reaches_no_instance() {
    let mut world = World::start();
    let echo = Echo::start("echo").await;
    world.serve_with("blog", &[echo.address], |policy| policy.limits.body = 10_000);
    for (i, client) in [world.h1(), world.h2()].into_iter().enumerate() {
        for (length, status) in [(10_001, 413), (500_000, 413), (10_000, 200)] {
            let request = client.post(world.url("blog", "/")).header("accept", "application/json");
            let answer = request.body("x".repeat(length)).send().await.unwrap();
            assert_eq!(answer.status(), status, "{length}");
            if status == 413 {
                let page = answer.text().await.unwrap();
                assert!(page.contains("body_too_large") && page.contains("10000 bytes"), "{page}");
            }
        }
        assert_eq!(echo.hits(), i as u64 + 1);
    }
    assert_eq!(world.app("blog").counted(Incident::BodyTooLarge), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_turns_out_too_large_is_cut() {
    let mut world = World::start();
    let echo = Echo::start("echo").await;
    world.serve_with("blog", &[echo.address], |policy| policy.limits.body = 10_000);
    for client in [world.h1(), world.h2()] {
        for (pieces, status) in [(11, 413), (2000, 413), (10, 200)] {
            let request = client.post(world.url("blog", "/")).body(streamed(pieces));
            assert_eq!(request.send().await.unwrap().status(), status, "{pieces}");
        }
    }
    assert_eq!(echo.hits(), 2, "the app never got a whole one that was too large");
    let (app, endpoint) = (world.app("blog"), world.in_flight_on("blog", 0));
    eventually("the leases end", || (app.in_flight(), endpoint.in_flight()) == (0, 0)).await;
    assert!(!endpoint.is_ejected(weir_config::Moment::now()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_through_a_tunnel_is_no_body() {
    let mut world = World::start();
    world.serve_with("chat", &[web_socket().await], |policy| policy.limits.body = 10);
    let mut raw = world.raw("chat.apps.test").await;
    raw.send(
        "GET / HTTP/1.1\r\nHost: chat.apps.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    raw.read_until("hello\n").await;
    let line = format!("{}\n", "x".repeat(1000));
    raw.send(&line).await;
    assert_eq!(raw.read_until("\n").await, format!(">{line}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_rate_are_turned_away_and_keep_nothing_awake() {
    let mut world = World::start();
    let echo = Echo::start("echo").await;
    let limit = |policy: &mut weir_config::TrafficPolicy| policy.limits.rate = an_hour(3);
    world.serve_with("blog", &[echo.address], limit);
    let (client, url) = (world.h2(), world.url("blog", "/"));
    let all = futures::future::join_all((0..20).map(|_| client.get(&url).send())).await;
    let passed = all.iter().filter(|answer| answer.as_ref().unwrap().status() == 200).count();
    assert_eq!(passed, 3);
    let app = world.app("blog");
    eventually("all leases end", || app.in_flight() == 0).await;
    let last_request = app.last_request();

    let mut route = world.route("blog", RouteState::Asleep(SleepLevel::Stopped));
    limit(std::sync::Arc::make_mut(&mut route.policy));
    world.control.publish(|snapshot| snapshot.insert(route));
    // The clock of requests has moved on by then.
    eventually("a moment later", || weir_config::Moment::now() > last_request).await;
    for client in [world.h1(), world.h2()] {
        let answer = client.get(&url).header("accept", "text/html").send().await.unwrap();
        assert_eq!(answer.status(), 429);
        let wait: u64 = answer.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&wait), "{wait}");
        assert!(answer.text().await.unwrap().contains("Too many requests"));
    }
    assert!(world.hints.is_empty(), "it sleeps on");
    assert_eq!((app.held(), app.in_flight(), app.last_request()), (0, 0, last_request));
    assert_eq!((app.counted(Incident::RateLimited), app.statuses()), (19, [0, 3, 0, 19, 0]));

    // Without a limit the same request does wake it.
    world.serve("blog", RouteState::Asleep(SleepLevel::Stopped));
    let held = tokio::spawn(client.get(&url).send());
    assert_eq!(world.hint().await, Hint::wake("blog"));
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_its_own_rate() {
    let mut world = World::start();
    let echo = Echo::start("echo").await;
    world.serve_with("blog", &[echo.address], |policy| policy.limits.rate_per_client = an_hour(2));
    for last in [1, 2, 3] {
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        let mut statuses = Vec::new();
        for _ in 0..4 {
            // A connection of its own each.
            let answer = world.h1_from(from).get(world.url("blog", "/")).send().await.unwrap();
            statuses.push(answer.status().as_u16());
        }
        assert_eq!(statuses, [200, 200, 429, 429], "{from}");
    }
    assert_eq!(world.app("blog").counted(Incident::ClientRateLimited), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_under_way_than_an_app_may_have() {
    let mut world = World::start();
    let slow = Echo::start_closed("slow").await;
    world.serve_with("blog", &[slow.address], |policy| policy.limits.in_flight = 2);
    let (client, url, app) = (world.h2(), world.url("blog", "/"), world.app("blog"));
    let under_way = [(); 2].map(|()| tokio::spawn(client.get(&url).send()));
    eventually("two are under way", || slow.hits() == 2).await;
    let third = client.get(&url).send().await.unwrap();
    assert_eq!(
        (third.status().as_u16(), &third.headers()[RETRY_AFTER]),
        (503, &"1".parse().unwrap())
    );
    assert!(third.text().await.unwrap().contains("busy"));
    slow.open();
    for request in under_way {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    eventually("both have ended", || app.in_flight() == 0).await;
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    assert_eq!((slow.hits(), app.counted(Incident::Overloaded)), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_instance_s_requests_go_to_another_until_all_are_full() {
    let mut world = World::start();
    let slow = [Echo::start_closed("one").await, Echo::start_closed("other").await];
    let addresses = [slow[0].address, slow[1].address];
    world.serve_with("blog", &addresses, |policy| policy.limits.in_flight_per_instance = 3);
    let (client, url) = (world.h2(), world.url("blog", "/"));
    let mut under_way = Vec::new();
    for i in 1..=6 {
        under_way.push(tokio::spawn(client.get(&url).send()));
        eventually("it is under way", || slow[0].hits() + slow[1].hits() == i).await;
    }
    assert_eq!((slow[0].hits(), slow[1].hits()), (3, 3));
    assert_eq!(client.get(&url).send().await.unwrap().status(), 503);
    slow.iter().for_each(Echo::open);
    for request in under_way {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(world.app("blog").counted(Incident::Overloaded), 1);
}
