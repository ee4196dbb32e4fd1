//! Apps in front of the targets of a failover policy.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use weir_config::{
    Backends, Balance, Endpoint, EndpointId, MemberId, MemberOf, Moment, Networks, Pool, Reach,
    RouteState, Shares, Steered, SteeredTarget, Steering, TargetPlace, TrafficPolicy,
};

use crate::{
    harness::{World, logged},
    upstreams::{Act, BlackHole, Echo, Refusing, Scripted, received},
};

/// A policy `shop` of these targets, which are called `a`, `b` and so on.
fn steered(world: &World, targets: &[SocketAddr], weights: &[u64]) -> Steered {
    let target = |(name, address): (u8, &SocketAddr)| {
        let name = char::from(name).to_string();
        let of =
            MemberOf::Target { policy: "shop".parse().unwrap(), target: name.parse().unwrap() };
        let id = EndpointId::from(MemberId { of, name: address.to_string().parse().unwrap() });
        let endpoint = Endpoint {
            activity: world.activity.endpoint(&id),
            id,
            address: *address,
            reach: Reach::Direct,
            weight: 1,
            ready_since: Moment::default(),
        };
        let pool = Arc::new(Pool::new(vec![endpoint], Balance::default()));
        let place = TargetPlace::Addresses(vec![address.ip()]);
        SteeredTarget { name: name.parse().unwrap(), place, pool, is_down: false }
    };
    let targets = (b'a'..).zip(targets).map(target).collect();
    let ttl = Duration::from_secs(30);
    let steering = Steering { epoch: 1, shares: Shares::by_weight(weights), ttl };
    Steered::new("shop".parse().unwrap(), targets, steering)
}

/// Publishes the app `shop` in front of this policy.
fn serve(world: &mut World, steered: Steered, change: impl FnOnce(&mut TrafficPolicy)) {
    let state = RouteState::Serving(Backends::Failover("shop".parse().unwrap()));
    let mut route = world.route("shop", state);
    change(Arc::make_mut(&mut route.policy));
    world.control.publish(|snapshot| {
        snapshot.insert_policy(Arc::new(steered));
        snapshot.insert(route);
    });
}

fn patient(policy: &mut TrafficPolicy) {
    policy.timeouts.read = Duration::from_millis(500);
    policy.retries.back_off = Duration::from_millis(1);
    policy.retries.budget_percent = 100;
}

/// Who answers so many requests at once, by the name of the target; the status of those whom nobody
/// answers.
async fn answers(world: &World, method: Method, count: usize) -> Vec<Result<String, StatusCode>> {
    let client = world.h2();
    let ask = async || {
        let request = client.request(method.clone(), world.url("shop", "/"));
        let answer = request.header("weir-debug", "1").send().await.unwrap();
        let target = answer.headers().get("weir-target").map(|name| name.to_str().unwrap());
        let target = target.map(str::to_owned);
        match answer.status() {
            StatusCode::OK => Ok(target.expect("the target is named")),
            status => Err(status),
        }
    };
    join_all((0..count).map(|_| ask())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_to_the_target_of_its_bucket_and_nobody_bounces_as_it_comes_back() {
    let mut world = World::with(|settings| {
        settings.trusted_proxies = Networks::parse(&["127.0.0.0/8"]).unwrap();
    });
    let (a, b) = (Echo::start("a").await, Echo::start("b").await);
    let clients: Vec<IpAddr> =
        (0..100_u8).map(|i| Ipv4Addr::new(198, 51, i, i.wrapping_mul(7)).into()).collect();
    let client = world.h2();
    let mut former: Vec<Option<String>> = vec![None; clients.len()];
    for weights in [[0, 100], [5, 95], [25, 75], [50, 50], [100, 0]] {
        let steered = steered(&world, &[a.address, b.address], &weights);
        let buckets = steered.buckets.clone();
        serve(&mut world, steered, |_| {});
        let ask = async |address: &IpAddr| {
            let request = client.get(world.url("shop", "/"));
            let answer = request.header("x-forwarded-for", address.to_string()).send();
            let echoed: Value = answer.await.unwrap().json().await.unwrap();
            echoed["name"].as_str().unwrap().to_owned()
        };
        let names = join_all(clients.iter().map(ask)).await;
        for ((address, name), former) in clients.iter().zip(names).zip(&mut former) {
            let expected = ["a", "b"][buckets.target(*address).unwrap()];
            assert_eq!(name, expected, "{address} by {weights:?}");
            let bounces = former.as_ref().is_some_and(|former| *former != name && name != "a");
            assert!(!bounces, "{address} went from a to b by {weights:?}");
            *former = Some(name);
        }
    }
    assert!(former.iter().all(|name| name.as_deref() == Some("a")));
}

/// Before anybody has decided anything: all shares are still the dead one's.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_target_does_not_answer_the_next_one_does() {
    let refuses = Refusing::start();
    let resets = Scripted::start(|_| Act::HangUp).await;
    let is_silent = Scripted::start(|_| Act::Silence).await;
    for (how, dead) in [
        ("refuses", refuses.address()),
        ("resets", resets.address),
        ("answers nothing", is_silent.address),
    ] {
        let mut world = World::start();
        let (b, c) = (Echo::start("b").await, Echo::start("c").await);
        let steered = steered(&world, &[dead, b.address, c.address], &[1, 0, 0]);
        serve(&mut world, steered, patient);
        let answered = answers(&world, Method::GET, 60).await;
        assert!(answered.iter().all(|by| by.as_deref() == Ok("b")), "{how}: {answered:?}");
        // It is ejected by now: what must not be sent twice does not meet it either.
        let answered = answers(&world, Method::POST, 20).await;
        assert!(answered.iter().all(|by| by.as_deref() == Ok("b")), "{how}: {answered:?}");
        assert_eq!(c.hits(), 0, "{how}: the next one in order is b");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_a_failure_is_tried_elsewhere_and_a_black_hole_is_left_in_time() {
    let mut world = World::start();
    let (bad, b) = (Scripted::start(|_| Act::Answer(503)).await, Echo::start("b").await);
    let first = steered(&world, &[bad.address, b.address], &[1, 0]);
    serve(&mut world, first, |policy| {
        patient(policy);
        policy.retries.on_status = vec![503];
        policy.outlier.failures = u32::MAX;
    });
    assert_eq!(answers(&world, Method::GET, 3).await, vec![Ok("b".to_owned()); 3]);
    assert_eq!(bad.hits(), 3);
    let nowhere = BlackHole::start().await;
    let second = steered(&world, &[nowhere.address, b.address], &[1, 0]);
    serve(&mut world, second, |policy| {
        patient(policy);
        policy.timeouts.connect = Duration::from_millis(200);
    });
    assert_eq!(answers(&world, Method::POST, 10).await, vec![Ok("b".to_owned()); 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_down_and_has_no_share_is_tried_for_nobody() {
    let mut world = World::start();
    let (bad, standby) = (Scripted::start(|_| Act::HangUp).await, Echo::start("b").await);
    let mut policy = steered(&world, &[bad.address, standby.address], &[1, 0]);
    policy.targets[1].is_down = true;
    let down = policy.clone();
    serve(&mut world, policy, |policy| {
        patient(policy);
        policy.retries.attempts = 0;
    });
    assert_eq!(answers(&world, Method::GET, 8).await, vec![Err(StatusCode::BAD_GATEWAY); 8]);
    assert_eq!(standby.hits(), 0);
    let nobody = Steering { shares: Shares::by_weight(&[0, 0]), ..down.steering };
    let closed = Steered::new(down.policy.clone(), down.targets, nobody);
    serve(&mut world, closed, patient);
    let refused = vec![Err(StatusCode::SERVICE_UNAVAILABLE); 2];
    assert_eq!(answers(&world, Method::GET, 2).await, refused, "nobody has a share");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_round_again_is_refused() {
    let mut world = World::start();
    let target = Echo::start("a").await;
    let policy = steered(&world, &[target.address], &[1]);
    serve(&mut world, policy, |_| {});
    let own = world.serving("blog", target.address);
    world.serve("blog", own);
    let get = |app: &str, passed: &str| {
        world.h1().get(world.url(app, "/")).header("CDN-Loop", passed.to_owned()).send()
    };
    let echoed: Value = get("shop", "cdn.example; a=1").await.unwrap().json().await.unwrap();
    assert_eq!(received(&echoed, "cdn-loop"), ["cdn.example; a=1", "weir-test"]);
    let answer = get("shop", "cdn.example, weir-test").await.unwrap();
    assert_eq!(answer.status(), StatusCode::LOOP_DETECTED);
    assert_eq!(target.hits(), 1);
    // Behind a CDN we are the origin, and that is no loop.
    let echoed: Value = get("blog", "weir-test, cdn.example").await.unwrap().json().await.unwrap();
    assert_eq!(received(&echoed, "cdn-loop"), ["weir-test, cdn.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_is_in_the_log_and_in_the_metrics() {
    let mut world = World::start();
    let (a, b) = (Echo::start("a").await, Scripted::start(|_| Act::Answer(500)).await);
    let policy = steered(&world, &[a.address, b.address], &[1, 0]);
    serve(&mut world, policy, |_| {});
    world.h1().get(world.url("shop", "/which-target")).send().await.unwrap();
    let line = logged("/which-target").await;
    assert_eq!(line["instance"], format!("failover/shop/a/{}", a.address));
    let moved = steered(&world, &[a.address, b.address], &[1, 3]);
    serve(&mut world, moved, |_| {});
    assert_eq!(world.metric(r#"weir_failover_share{policy="shop",target="a"}"#), 0.25);
    assert_eq!(world.metric(r#"weir_failover_share{policy="shop",target="b"}"#), 0.75);
    let answers = r#"weir_failover_answers_total{policy="shop",target="a",outcome="answered"}"#;
    assert_eq!(world.metric(answers), 1.0);
    let only_b = steered(&world, &[a.address, b.address], &[0, 1]);
    serve(&mut world, only_b, |_| {});
    let answer = world.h1().get(world.url("shop", "/")).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    let failed = r#"weir_failover_answers_total{policy="shop",target="b",outcome="failed"}"#;
    assert_eq!(world.metric(failed), 1.0);
}
