//! Connections that stay open: WebSockets.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use weir_config::{PlainHttp, RouteState, SleepLevel};

use crate::{
    clients::Raw,
    harness::{DEADLINE, Hint, World, eventually, serving},
    upstreams::{Echo, Refusing, mirror, web_socket},
};

pub(crate) const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: chat.apps.test\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub(crate) async fn check_both_ways(raw: &mut Raw) {
    let head = raw.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!(raw.read_until("\n").await, "hello\n");
    for message in ["one\n", "two\n"] {
        raw.send(message).await;
        assert_eq!(raw.read_until("\n").await, format!(">{message}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_goes_both_ways_and_is_in_flight_until_it_is_closed() {
    let mut world = World::start();
    world.serve("chat", world.serving("chat", web_socket().await));
    let (app, endpoint) = (world.app("chat"), world.in_flight_on("chat", 0));
    let mut raw = world.raw("chat.apps.test").await;
    raw.send(HANDSHAKE).await;
    check_both_ways(&mut raw).await;
    assert_eq!((app.in_flight(), endpoint.in_flight()), (1, 1));

    // What is published later does not cut it.
    world.serve("chat", RouteState::Asleep(SleepLevel::Paused));
    raw.send("still\n").await;
    assert_eq!(raw.read_until("\n").await, ">still\n");
    assert_eq!((app.in_flight(), endpoint.in_flight()), (1, 1));

    drop(raw);
    eventually("the tunnel ends", || (app.in_flight(), endpoint.in_flight()) == (0, 0)).await;
    assert_eq!(app.statuses(), [1, 0, 0, 0, 0]);
}

/// As Autobahn's largest: a binary frame of 1 MiB, masked, with its length in 64 bits.
fn large_frame() -> Vec<u8> {
    let head = [&[0x82, 0xff][..], &(1u64 << 20).to_be_bytes(), &[1, 2, 3, 4]].concat();
    head.into_iter().chain((0..1u32 << 20).map(|i| (i % 251) as u8)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_frame_comes_through_whole_and_a_half_that_is_closed_ends_the_tunnel() {
    let mut world = World::start();
    world.serve("chat", world.serving("chat", mirror().await));
    let (app, frame) = (world.app("chat"), large_frame());
    for secure in [true, false] {
        if !secure {
            let mut route = world.route("chat", world.serving("chat", mirror().await));
            Arc::make_mut(&mut route.policy).plain_http = PlainHttp::Serve;
            world.control.publish(|snapshot| snapshot.insert(route));
        }
        let stream: Box<dyn Stream> = match secure {
            true => Box::new(world.raw("chat.apps.test").await.0),
            false => Box::new(world.plain().await.0),
        };
        let mut raw = Raw(stream);
        raw.send(HANDSHAKE).await;
        raw.read_until("\r\n\r\n").await;
        let (mut reading, mut writing) = tokio::io::split(raw.0);
        let sent = frame.clone();
        let sending = tokio::spawn(async move {
            writing.write_all(&sent).await.unwrap();
            writing.flush().await.unwrap();
            writing
        });
        let mut echoed = vec![0; frame.len()];
        timeout(DEADLINE, reading.read_exact(&mut echoed)).await.expect("it stops").unwrap();
        assert!(echoed == frame, "it came back otherwise");
        // A WebSocket says goodbye in a frame. Without one, the end of either half is that of both.
        sending.await.unwrap().shutdown().await.unwrap();
        let rest = timeout(DEADLINE, reading.read_u8()).await.expect("never closed");
        assert!(rest.is_err(), "{rest:?}");
        eventually("the tunnel ends", || app.in_flight() == 0).await;
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_wakes_its_app() {
    let mut world = World::start();
    world.serve("chat", RouteState::Asleep(SleepLevel::Paused));
    let mut raw = world.raw("chat.apps.test").await;
    raw.send(HANDSHAKE).await;
    let app = world.app("chat");
    eventually("held", || app.held() == 1).await;
    world.serve("chat", world.serving("chat", web_socket().await));
    check_both_ways(&mut raw).await;
}

/// Pingora's own race made one in some of them fail.
#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_survive_an_instance_that_answers_at_once() {
    let mut world = World::start();
    world.serve("chat", world.serving("chat", web_socket().await));
    let app = world.app("chat");
    for _ in 0..200 {
        let mut raw = world.raw("chat.apps.test").await;
        raw.send(HANDSHAKE).await;
        check_both_ways(&mut raw).await;
    }
    eventually("all are closed", || app.in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_does_not_speak_web_socket_may_say_so() {
    let mut world = World::start();
    let echo = Echo::start("plain").await;
    world.serve("chat", world.serving("chat", echo.address));
    for _ in 0..3 {
        let mut raw = world.raw("chat.apps.test").await;
        raw.send(HANDSHAKE).await;
        let head = raw.read_until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        raw.read_until("}").await;
        // The connection is an ordinary one still.
        raw.send("GET /next HTTP/1.1\r\nHost: chat.apps.test\r\n\r\n").await;
        assert!(raw.read_until("}").await.contains("/next"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_goes_to_another_endpoint_when_one_refuses() {
    let mut world = World::start();
    let dead = Refusing::start();
    let alive = world.endpoint("chat", 1, web_socket().await);
    let busy = alive.activity.begin();
    let endpoints = vec![world.endpoint("chat", 0, dead.address()), alive];
    world.serve("chat", serving(endpoints));
    let mut raw = world.raw("chat.apps.test").await;
    raw.send(HANDSHAKE).await;
    check_both_ways(&mut raw).await;
    assert_eq!(world.hint().await, Hint::connect_failed("chat", 0));
    drop(busy);
}
