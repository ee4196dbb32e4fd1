//! Requests that were sent and failed.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use tokio::{sync::Notify, time::timeout};
use weir_config::{Incident, TrafficPolicy};

use crate::{
    harness::{DEADLINE, World, eventually, serving},
    upstreams::{Act, Echo, Scripted},
};

/// No endpoint is ejected, so that each failure is met.
fn retrying(attempts: u8) -> impl FnOnce(&mut TrafficPolicy) {
    move |policy| {
        policy.outlier.failures = u32::MAX;
        policy.retries.attempts = attempts;
        policy.retries.on_status = vec![503];
        policy.retries.back_off = Duration::from_millis(1);
        policy.retries.budget_percent = 100;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_request_that_fails_is_sent_to_another_endpoint() {
    for act in [Act::HangUp, Act::Answer(503)] {
        let mut world = World::start();
        let (bad, good) = (Scripted::start(move |_| act).await, Echo::start("good").await);
        world.serve_with("blog", &[bad.address, good.address], retrying(1));
        // The good one is busier, so that the bad one is tried first.
        let _busy = world.in_flight_on("blog", 1).begin();
        for client in [world.h1(), world.h2()] {
            let put = client.put(world.url("blog", "/")).body("kept").send().await.unwrap();
            assert_eq!(put.status(), 200);
            assert_eq!(put.json::<Value>().await.unwrap()["body"], "kept");
            let get = client.get(world.url("blog", "/")).send().await.unwrap();
            assert_eq!(get.status(), 200);
        }
        assert_eq!((bad.hits(), good.hits()), (4, 4));
        assert_eq!(world.app("blog").counted(Incident::Retry), 4);
    }
}

/// An instance that is slow would only get more to do; one on a machine that is lost is not slow.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_answer_is_sent_again_if_its_instance_is_gone_by_then() {
    let mut world = World::start();
    let (silent, good) = (Scripted::start(|_| Act::Silence).await, Echo::start("good").await);
    let policy = |policy: &mut TrafficPolicy| {
        retrying(1)(policy);
        policy.timeouts.read = Duration::from_secs(1);
    };
    for (hits, leaves, method, status) in
        [(1, true, Method::GET, 200), (2, true, Method::POST, 504), (3, false, Method::GET, 504)]
    {
        world.serve_with("blog", &[silent.address, good.address], policy);
        let busy = world.in_flight_on("blog", 1).begin();
        let request = world.h1().request(method, world.url("blog", "/")).body("x");
        let request = tokio::spawn(request.send());
        eventually("it waits", || silent.hits() == hits).await;
        if leaves {
            let left = serving([world.endpoint("blog", 1, good.address)]);
            world.serve("blog", left);
        }
        let answer = request.await.unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), silent.hits()), (status, hits));
        drop(busy);
    }
    assert_eq!(good.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_sent_twice_is_not() {
    let mut world = World::start();
    let (bad, good) = (Scripted::start(|_| Act::HangUp).await, Echo::start("good").await);
    world.serve_with("blog", &[bad.address, good.address], retrying(3));
    world.serve_with("never", &[bad.address, good.address], retrying(0));
    let _busy = (world.in_flight_on("blog", 1).begin(), world.in_flight_on("never", 1).begin());
    let mut asked = 0;
    for client in [world.h1(), world.h2()] {
        // More than is kept of a body, and methods that are not idempotent.
        for (app, method, body) in [
            ("blog", Method::PUT, 100_000),
            ("blog", Method::POST, 4),
            ("blog", Method::PATCH, 4),
            ("never", Method::PUT, 4),
        ] {
            let request = client.request(method.clone(), world.url(app, "/"));
            let answer = request.body("x".repeat(body)).send().await.unwrap();
            assert_eq!(answer.status(), 502, "{app} {method}");
            asked += 1;
        }
    }
    assert_eq!((bad.hits(), good.hits()), (asked, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_fails_to_the_end_is_the_client_s() {
    let mut world = World::start();
    let bad = Scripted::start(|_| Act::Answer(503)).await;
    world.serve_with("blog", &[bad.address], retrying(2));
    for (method, hits) in [(Method::GET, 3), (Method::POST, 4)] {
        let answer = world.h1().request(method, world.url("blog", "/")).send().await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.text().await.unwrap(), "scripted", "the app's own page");
        assert_eq!(bad.hits(), hits);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_has_begun_is_not_begun_again() {
    static SEEN: Notify = Notify::const_new();
    let mut world = World::start();
    let breaks = Scripted::start(|_| Act::Break(&SEEN)).await;
    world.serve_with("blog", &[breaks.address], retrying(3));
    for (i, client) in [world.h1(), world.h2()].into_iter().enumerate() {
        let answer = client.get(world.url("blog", "/")).send();
        // Its beginning does not wait for the rest of it.
        let mut answer = timeout(DEADLINE, answer).await.expect("the head of an answer").unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.chunk().await.unwrap().unwrap()[..]),
            (200, &b"scr"[..])
        );
        SEEN.notify_one();
        answer.chunk().await.unwrap_err();
        assert_eq!(breaks.hits(), i as u64 + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pause_before_a_retry_is_kept_and_is_not_begun_in_vain() {
    let mut world = World::start();
    let bad = Scripted::start(|hit| if hit == 1 { Act::Answer(200) } else { Act::HangUp }).await;
    let pause = Duration::from_millis(200);
    let policy = |policy: &mut TrafficPolicy| {
        retrying(1)(policy);
        policy.retries.back_off = pause;
    };
    world.serve_with("blog", &[bad.address], policy);
    let begun = Instant::now();
    let answer = world.h1().get(world.url("blog", "/")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), bad.hits()), (200, 2));
    assert!(begun.elapsed() >= pause / 2, "{:?}", begun.elapsed());
    world.serve_with("blog", &[bad.address], |it| {
        policy(it);
        it.retries.back_off = DEADLINE;
        it.timeouts.total = Some(DEADLINE / 4);
    });
    let answer = world.h1().get(world.url("blog", "/")).send().await.unwrap();
    // On the connection of before, which might have been closed before; on a new one; and then it
    // would have to wait for longer than it may take.
    assert_eq!((answer.status().as_u16(), bad.hits()), (502, 4));
}

/// How often an upstream that always fails is asked by 100 requests, and how long they took.
async fn asked(budget_percent: u8) -> (u64, World, Duration) {
    let mut world = World::start();
    let bad = Scripted::start(|_| Act::Answer(503)).await;
    world.serve_with("blog", &[bad.address], |policy| {
        retrying(1)(policy);
        policy.retries.budget_percent = budget_percent;
    });
    let (client, begun) = (world.h1(), Instant::now());
    for _ in 0..100 {
        client.get(world.url("blog", "/")).send().await.unwrap();
    }
    (bad.hits(), world, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_no_more_than_the_budget_and_a_few() {
    let (hits, world, took) = asked(20).await;
    let few = 3 * (took.as_secs() + 2);
    assert!(hits > 100 && hits <= 120 + few, "{hits} for 100 requests in {took:?}");
    assert_eq!(world.app("blog").counted(Incident::Retry), hits - 100);
    assert_eq!(world.app("blog").counted(Incident::RetryDenied), 200 - hits);
    // Were it not for the budget:
    assert_eq!(asked(100).await.0, 200);
}

/// The statuses of requests while one of two endpoints begins to hang up.
async fn while_one_dies(attempts: u8) -> Vec<u16> {
    let mut world = World::start();
    let dies = Scripted::start(|hit| if hit < 20 { Act::Answer(200) } else { Act::HangUp }).await;
    let lives = Scripted::start(|_| Act::Answer(200)).await;
    world.serve_with("blog", &[dies.address, lives.address], retrying(attempts));
    let (client, url) = (world.h2(), world.url("blog", "/"));
    let requests = (0..200).map(|_| client.get(&url).send());
    let answers = futures::future::join_all(requests).await;
    assert!(dies.hits() > 20 && lives.hits() > 20, "both were asked");
    let app = world.app("blog");
    eventually("all leases end", || app.in_flight() == 0).await;
    answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_an_endpoint_that_dies() {
    let answers = while_one_dies(2).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    // The same without retries is noticed, so the former shows something.
    assert!(while_one_dies(0).await.contains(&502));
}
