//! Instances that do not do their part.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use weir_config::{RouteState, SleepLevel};

use crate::{
    harness::{Hint, World, eventually, serving},
    upstreams::{Echo, Refusing, hangs_up},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_another_endpoint_when_one_refuses_a_post_too() {
    let mut world = World::start();
    let (dead, echo) = (Refusing::start(), Echo::start("alive").await);
    // The other is busier, so that the dead one is tried first.
    let alive = world.endpoint("blog", 1, echo.address);
    let _busy = alive.activity.begin();
    let endpoints = vec![world.endpoint("blog", 0, dead.address()), alive];
    world.serve("blog", serving(endpoints));
    for client in [world.h1(), world.h2()] {
        let response = client.post(world.url("blog", "/")).body("once").send().await.unwrap();
        assert_eq!(response.status(), 200);
        let echoed: Value = response.json().await.unwrap();
        assert_eq!((&echoed["name"], &echoed["body"]), (&"alive".into(), &"once".into()));
        assert_eq!(world.hint().await, Hint::connect_failed("blog", 0));
    }
    assert_eq!(echo.hits(), 2);
    let endpoint = world.in_flight_on("blog", 0);
    eventually("the dead one has no lease", || endpoint.in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_endpoint_accepts_the_answer_is_502() {
    let mut world = World::start();
    let dead = Refusing::start();
    world.serve("blog", world.serving("blog", dead.address()));
    let response = world.h1().post(world.url("blog", "/")).body("x").send().await.unwrap();
    assert_eq!(response.status(), 502);
    let page = response.text().await.unwrap();
    assert!(page.contains("does not accept connections"), "{page}");
    assert!(!page.contains("127.0.0.1") && !page.contains("refused"), "{page}");
    for _ in 0..5 {
        assert_eq!(world.hint().await, Hint::connect_failed("blog", 0));
    }
    assert!(world.hints.is_empty());
    let app = world.app("blog");
    eventually("the leases end", || app.in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_when_its_app_falls_asleep_under_it() {
    let mut world = World::start();
    let (dead, echo) = (Refusing::start(), Echo::start("alive").await);
    world.serve("blog", world.serving("blog", dead.address()));
    let sent = tokio::spawn(world.h1().post(world.url("blog", "/")).body("kept").send());
    assert_eq!(world.hint().await, Hint::connect_failed("blog", 0));
    world.serve("blog", RouteState::Asleep(SleepLevel::Stopped));
    let app = world.app("blog");
    eventually("held", || app.held() == 1).await;
    world.serve("blog", world.serving("blog", echo.address));
    assert!(sent.await.unwrap().unwrap().text().await.unwrap().contains("kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_says_nothing_is_504() {
    let mut world = World::start();
    let silent = Echo::start_closed("silent").await;
    let mut route = world.route("blog", world.serving("blog", silent.address));
    Arc::make_mut(&mut route.policy).timeouts.read = Duration::from_millis(50);
    world.control.publish(|snapshot| snapshot.insert(route));
    for client in [world.h1(), world.h2()] {
        let response = client.get(world.url("blog", "/")).send().await.unwrap();
        assert_eq!(response.status(), 504);
        assert!(response.text().await.unwrap().contains("did not answer in time"));
    }
    assert_eq!(silent.hits(), 2, "a request that was sent is not sent again");
    let (app, endpoint) = (world.app("blog"), world.in_flight_on("blog", 0));
    eventually("the leases end", || (app.in_flight(), endpoint.in_flight()) == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_hangs_up_is_502() {
    let mut world = World::start();
    world.serve("blog", world.serving("blog", hangs_up().await));
    let response = world.h1().post(world.url("blog", "/")).body("x").send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert!(response.text().await.unwrap().contains("did not answer properly"));
}
