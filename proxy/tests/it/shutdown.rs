//! The end of a proxy.

use std::time::Duration;

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
