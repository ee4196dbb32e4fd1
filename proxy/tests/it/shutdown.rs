//! The end of a proxy.

use std::time::{Duration, Instant};

use reqwest::header::RETRY_AFTER;
use tokio::{net::TcpStream, time::timeout};
use weir_config::{RouteState, SleepLevel};
use weir_proxy::Phase;

use crate::{
    harness::{DEADLINE, World, eventually},
    upstreams::Echo,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_listeners_close_requests_in_flight_end_well_and_held_ones_are_turned_away() {
    let mut world = World::start();
    let echo = Echo::start_closed("busy").await;
    world.serve("busy", world.serving("busy", echo.address));
    world.serve("asleep", RouteState::Asleep(SleepLevel::Stopped));
    let (busy, asleep) = (world.app("busy"), world.app("asleep"));
    let in_flight = tokio::spawn(world.h1().get(world.url("busy", "/")).send());
    let held = tokio::spawn(world.h2().get(world.url("asleep", "/")).send());
    eventually("both are there", || (echo.hits(), asleep.held()) == (1, 1)).await;

    world.phase.send_replace(Phase::Draining { accepting: true });
    timeout(DEADLINE, world.running).await.expect("run did not return").unwrap();
    for address in [world.http, world.https] {
        assert!(TcpStream::connect(address).await.is_err(), "{address} still listens");
    }
    assert!(!held.is_finished(), "somebody could still wake the app");
    drop(world.control);
    let response = held.await.unwrap().unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    assert_eq!(busy.in_flight(), 1);
    echo.open();
    assert_eq!(in_flight.await.unwrap().unwrap().status(), 200);
    eventually("all is over", || busy.in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_at_shutdown() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let mut raw = world.raw("blog.apps.test").await;
    raw.send("GET / HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n").await;
    raw.read_until("}").await;
    world.phase.send_replace(Phase::Draining { accepting: true });
    timeout(Duration::from_secs(5), raw.read_to_end()).await.expect("the connection stayed open");
}

const GET: &str = "GET / HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n";

/// A world with one app that answers, and a drain that does not end by itself.
async fn lasting() -> (World, Echo) {
    let mut world = World::with(|settings| settings.lame_duck = DEADLINE * 10);
    let echo = Echo::start_closed("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    (world, echo)
}

/// Waits until the proxy has taken notice of the drain.
async fn clients_are_told(world: &World) {
    let told = async {
        loop {
            let mut plain = world.plain().await;
            plain.send("GET / HTTP/1.1\r\nHost: nobody.apps.test\r\n\r\n").await;
            if plain.read_until("\r\n\r\n").await.to_lowercase().contains("connection: close") {
                return;
            }
        }
    };
    timeout(DEADLINE, told).await.expect("clients were never told to go");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_clients_are_told_to_go_they_are_served_and_new_ones_too() {
    let (world, echo) = lasting().await;
    let app = world.app("blog");
    let mut idle = world.raw("blog.apps.test").await;
    idle.send("GET / HTTP/1.1\r\nHost: nobody.apps.test\r\n\r\n").await;
    assert!(idle.read_until("\r\n\r\n").await.contains("keep-alive"));
    let mut silent = world.raw("blog.apps.test").await;
    let mut busy = world.raw("blog.apps.test").await;
    busy.send(GET).await;
    let h2 = world.h2();
    let over_h2 = tokio::spawn(h2.get(world.url("blog", "/")).send());
    eventually("both are there", || echo.hits() == 2).await;

    world.phase.send_replace(Phase::Draining { accepting: true });
    clients_are_told(&world).await;
    echo.open();
    let mut new = world.raw("blog.apps.test").await;
    for raw in [&mut idle, &mut silent, &mut new] {
        raw.send(GET).await;
    }
    for raw in [&mut busy, &mut idle, &mut silent, &mut new] {
        let answer = raw.read_to_end().await;
        let (head, _) = answer.rsplit_once("\r\n\r\n").unwrap();
        assert!(head.contains("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.to_lowercase().contains("connection: close"), "{head}");
    }
    assert_eq!(over_h2.await.unwrap().unwrap().status(), 200);
    // The client of HTTP/2 was told to take another connection, and does.
    assert_eq!(h2.get(world.url("blog", "/")).send().await.unwrap().status(), 200);
    eventually("nothing is in flight", || app.in_flight() == 0).await;
    let accepted = world.metric("weir_connections_accepted_total{listener=\"https\"}");
    assert_eq!(accepted, 6.0);
    assert!(!world.running.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_another_process_accepts_this_one_stops_at_once_and_serves_what_it_has() {
    let (world, echo) = lasting().await;
    let mut idle = world.raw("blog.apps.test").await;
    idle.send("GET / HTTP/1.1\r\nHost: nobody.apps.test\r\n\r\n").await;
    assert!(idle.read_until("\r\n\r\n").await.contains("keep-alive"));
    let mut silent = world.raw("blog.apps.test").await;

    world.phase.send_replace(Phase::Draining { accepting: false });
    for address in [world.http, world.https] {
        let wait = async { while TcpStream::connect(address).await.is_ok() {} };
        timeout(DEADLINE, wait).await.expect("it still listens");
    }
    echo.open();
    // What is on its way is served.
    for raw in [&mut idle, &mut silent] {
        raw.send(GET).await;
        assert!(raw.read_to_end().await.contains("HTTP/1.1 200 OK\r\n"));
    }
    timeout(DEADLINE, world.running).await.expect("run waits for nobody").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_ends_and_what_is_silent_is_closed() {
    let duck = Duration::from_millis(300);
    let mut world = World::with(|settings| settings.lame_duck = duck);
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let mut idle = world.raw("blog.apps.test").await;
    idle.send(GET).await;
    idle.read_until("}").await;
    let mut silent = world.plain().await;
    let h2 = world.h2();
    assert_eq!(h2.get(world.url("blog", "/")).send().await.unwrap().status(), 200);
    let begun = Instant::now();
    world.phase.send_replace(Phase::Draining { accepting: true });
    assert_eq!(idle.read_to_end().await, "");
    assert_eq!(silent.read_to_end().await, "");
    assert!(begun.elapsed() >= duck, "closed after {:?}", begun.elapsed());
    let open = |port| world.metric(&format!("weir_connections_open{{listener=\"{port}\"}}"));
    eventually("no connection is left", || open("https") + open("http") == 0.0).await;
    timeout(DEADLINE, world.running).await.expect("run did not return").unwrap();
}

/// A client whose other connections are told to go takes one that it has not used for long.
#[tokio::test(flavor = "multi_thread")]
async fn at_an_upgrade_a_connection_that_was_silent_before_has_a_lame_duck_as_well() {
    let duck = Duration::from_millis(300);
    let mut world = World::with(|settings| settings.lame_duck = duck);
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let mut idle = world.raw("blog.apps.test").await;
    idle.send(GET).await;
    idle.read_until("}").await;
    let mut fresh = world.plain().await;
    tokio::time::sleep(2 * duck).await;
    let begun = Instant::now();
    world.phase.send_replace(Phase::Draining { accepting: false });
    assert_eq!(idle.read_to_end().await, "");
    assert_eq!(fresh.read_to_end().await, "");
    assert!(begun.elapsed() >= duck, "closed after {:?}", begun.elapsed());
}
