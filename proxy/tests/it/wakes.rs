//! Requests that wait for their app.

use std::time::{Duration, Instant};

use reqwest::header::RETRY_AFTER;
use weir_config::{RouteState, SleepLevel};

use crate::{
    clients::Wire,
    harness::{Hint, World, eventually},
    upstreams::Echo,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_is_answered_when_its_app_is_published() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    for (client, level) in [(world.h1(), SleepLevel::Paused), (world.h2(), SleepLevel::Stopped)] {
        world.serve("blog", RouteState::Asleep(level));
        let app = world.app("blog");
        let sent = tokio::spawn(client.post(world.url("blog", "/")).body("kept").send());
        assert_eq!(world.hint().await, Hint::wake("blog"));
        eventually("the request is held", || app.held() == 1).await;
        assert_eq!(app.in_flight(), 1);

        world.serve("other", RouteState::Starting);
        world.serve("blog", RouteState::Starting);
        assert_eq!((app.held(), world.hints.is_empty()), (1, true));
        world.serve("blog", world.serving("blog", echo.address));
        let response = sent.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.text().await.unwrap().contains("kept"));
        assert_eq!((app.held(), app.wake(level).buckets.iter().sum::<u64>()), (0, 1));
        eventually("the lease ends", || app.in_flight() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_is_told_again_while_requests_wait() {
    let mut world = World::start();
    world.serve("blog", RouteState::Asleep(SleepLevel::Stopped));
    let sent = tokio::spawn(world.h1().get(world.url("blog", "/")).send());
    assert_eq!(world.hint().await, Hint::wake("blog"));
    let first = Instant::now();
    assert_eq!(world.hint().await, Hint::wake("blog"));
    assert!(first.elapsed() > Duration::from_millis(900), "{:?}", first.elapsed());
    assert_eq!(world.hint().await, Hint::wake("blog"));
    sent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_waiters_are_all_released() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", RouteState::Asleep(SleepLevel::Paused));
    let (app, client) = (world.app("blog"), world.h2());
    let sent: Vec<_> =
        (0..1000).map(|_| tokio::spawn(client.get(world.url("blog", "/")).send())).collect();
    // One HTTP/2 connection carries 100 streams at a time; the client queues the others.
    eventually("as many are held as one connection carries", || app.held() == 100).await;
    world.serve("blog", world.serving("blog", echo.address));
    for sent in sent {
        assert_eq!(sent.await.unwrap().unwrap().status(), 200);
    }
    eventually("nobody waits", || (app.held(), app.in_flight()) == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_than_the_queue_holds_is_turned_away() {
    let mut world = World::start();
    let mut route = world.route("blog", RouteState::Asleep(SleepLevel::Stopped));
    route.queue = 1;
    world.control.publish(|snapshot| snapshot.insert(route));
    let (app, client) = (world.app("blog"), world.h1());
    let first = tokio::spawn(client.get(world.url("blog", "/")).send());
    eventually("the first is held", || app.held() == 1).await;
    let response = client.get(world.url("blog", "/")).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
        (503, &"1".parse().unwrap())
    );
    assert_eq!(app.held(), 1);
    first.abort();
    eventually("its place is free", || app.held() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_its_place() {
    let mut world = World::start();
    world.serve("blog", RouteState::Asleep(SleepLevel::Stopped));
    let app = world.app("blog");

    let mut raw = world.raw("blog.apps.test").await;
    raw.send("GET / HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n").await;
    eventually("held over HTTP/1.1", || app.held() == 1).await;
    drop(raw);
    eventually("free after HTTP/1.1", || (app.held(), app.in_flight()) == (0, 0)).await;

    // The stream is reset; the connection stays.
    let client = world.h2();
    let sent = tokio::spawn(client.post(world.url("blog", "/")).body("body").send());
    eventually("held over HTTP/2", || app.held() == 1).await;
    sent.abort();
    eventually("free after HTTP/2", || (app.held(), app.in_flight()) == (0, 0)).await;
    assert_eq!(app.statuses(), [0, 0, 0, 2, 0], "they count as 499");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_connection_breaks_frees_its_place() {
    let mut world = World::start();
    world.serve("blog", RouteState::Asleep(SleepLevel::Stopped));
    let app = world.app("blog");
    for client in [world.h1(), world.h2()] {
        let wire = Wire::to(world.https).await;
        let url = format!("https://blog.apps.test:{}/", wire.port);
        let sent = tokio::spawn(client.get(url).send());
        eventually("held", || app.held() == 1).await;
        wire.cut();
        eventually("free", || (app.held(), app.in_flight()) == (0, 0)).await;
        assert!(sent.await.unwrap().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_ahead_does_not_disturb_one_that_is_held() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", RouteState::Asleep(SleepLevel::Paused));
    let app = world.app("blog");
    let mut raw = world.raw("blog.apps.test").await;
    raw.send("GET /1 HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n").await;
    eventually("held", || app.held() == 1).await;
    raw.send("GET /2 HTTP/1.1\r\nHost: blog.apps.test\r\nConnection: close\r\n\r\n").await;
    world.serve("blog", world.serving("blog", echo.address));
    let answers = raw.read_to_end().await;
    assert!(answers.find("\"/1\"").unwrap() < answers.find("\"/2\"").unwrap(), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_that_takes_too_long_is_given_up() {
    let mut world = World::start();
    let mut route = world.route("blog", RouteState::Asleep(SleepLevel::Stopped));
    route.wake_timeout = Duration::from_millis(50);
    world.control.publish(|snapshot| snapshot.insert(route));
    let response = world.h1().get(world.url("blog", "/")).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
        (503, &"5".parse().unwrap())
    );
    assert!(response.text().await.unwrap().contains("still waking"));
    let app = world.app("blog");
    eventually("its place is free", || (app.held(), app.in_flight()) == (0, 0)).await;
    assert_eq!(app.wake(SleepLevel::Stopped).buckets.iter().sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_that_fails_tells_its_waiters() {
    let mut world = World::start();
    world.serve("blog", RouteState::Asleep(SleepLevel::Stopped));
    let app = world.app("blog");
    let sent = tokio::spawn(world.h1().get(world.url("blog", "/")).send());
    eventually("held", || app.held() == 1).await;
    let (reason, retry_after) = ("It exits at once.".into(), Duration::from_secs(9));
    world.serve("blog", RouteState::Unavailable { reason, retry_after });
    let response = sent.await.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
        (503, &"9".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_removed_while_requests_wait_is_not_found() {
    let mut world = World::start();
    world.serve("blog", RouteState::Starting);
    let app = world.app("blog");
    let sent = tokio::spawn(world.h1().get(world.url("blog", "/")).send());
    eventually("held", || app.held() == 1).await;
    world.control.publish(|snapshot| snapshot.remove(&"blog".parse().unwrap()));
    assert_eq!(sent.await.unwrap().unwrap().status(), 404);
    eventually("nothing is left", || (app.held(), app.in_flight()) == (0, 0)).await;
}
