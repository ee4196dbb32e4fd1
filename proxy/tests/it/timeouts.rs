//! How long anyone is waited for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::Body;
use weir_config::{Moment, TrafficPolicy, UpstreamProtocol};

use crate::{
    harness::{DEADLINE, World, eventually},
    upstreams::{Act, Echo, Scripted, web_socket},
};

const SHORT: Duration = Duration::from_millis(200);

const HANDSHAKE: &str =
    "GET / HTTP/1.1\r\nHost: chat.apps.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_altogether_is_504() {
    let mut world = World::start();
    let silent = Scripted::start(|_| Act::Silence).await;
    world.serve_with("blog", &[silent.address], |policy| policy.timeouts.total = Some(SHORT));
    for client in [world.h1(), world.h2()] {
        let begun = Instant::now();
        let answer = client.get(world.url("blog", "/")).send().await.unwrap();
        assert_eq!(answer.status(), 504);
        assert!((SHORT..DEADLINE / 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
    assert_eq!(silent.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_altogether_is_cut() {
    let mut world = World::start();
    // A piece each 20 ms, so that no wait is long; the whole would take minutes.
    let drips = Scripted::start(|_| Act::Drip(10_000)).await;
    // Long enough for the answer to begin also where everything is slow.
    let total = 5 * SHORT;
    world.serve_with("blog", &[drips.address], |policy| policy.timeouts.total = Some(total));
    let (app, endpoint) = (world.app("blog"), world.in_flight_on("blog", 0));
    for client in [world.h1(), world.h2()] {
        let begun = Instant::now();
        let answer = client.get(world.url("blog", "/")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap_err();
        assert!((total..DEADLINE / 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        eventually("leases end", || (app.in_flight(), endpoint.in_flight()) == (0, 0)).await;
    }
    // To ask for a tunnel and get none is no way around it.
    let begun = Instant::now();
    let mut raw = world.raw("blog.apps.test").await;
    raw.send(&HANDSHAKE.replace("chat", "blog")).await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!((total..DEADLINE / 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // One that takes longer than `read`, but not too long altogether, is whole.
    let drips = Scripted::start(|_| Act::Drip(15)).await;
    world.serve_with("blog", &[drips.address], |policy| {
        policy.timeouts.read = SHORT;
        policy.timeouts.total = Some(DEADLINE);
    });
    let answer = world.h1().get(world.url("blog", "/")).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap().len(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_send_its_body_is_told_so_and_frees_the_instance() {
    let mut world = World::start();
    let echo = Echo::start("echo").await;
    let (app, endpoint) = (world.app("blog"), world.in_flight_on("blog", 0));
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        world.serve_with("blog", &[echo.address], |policy| {
            policy.timeouts.read = SHORT;
            policy.outlier.failures = 1;
            policy.outlier.max_ejected_percent = 100;
            policy.upstream.protocol = protocol;
        });
        for client in [world.h1(), world.h2()] {
            let some = stream::iter([Ok::<_, std::io::Error>(Bytes::from("some"))]);
            let body = Body::wrap_stream(some.chain(stream::pending()));
            let answer = client.post(world.url("blog", "/")).body(body).send().await.unwrap();
            assert_eq!(answer.status(), 408, "{protocol:?}");
            eventually("leases end", || (app.in_flight(), endpoint.in_flight()) == (0, 0)).await;
        }
    }
    assert!(!endpoint.is_ejected(Moment::now()), "it is not the instance's fault");
    assert_eq!(echo.hits(), 0);
}

/// Pieces that come for longer than an answer is waited for, without a pause as long.
fn slow_body(piece: &'static str) -> Body {
    Body::wrap_stream(stream::unfold(0, move |i| async move {
        tokio::time::sleep(SHORT / 4).await;
        (i < SLOW_PIECES).then_some((Ok::<_, std::io::Error>(Bytes::from(piece)), i + 1))
    }))
}

const SLOW_PIECES: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_may_take_longer_than_an_answer_and_its_answer_no_longer() {
    let mut world = World::start();
    let (echo, silent) = (Echo::start("echo").await, Echo::start_closed("silent").await);
    let piece: &str = "0123456789".repeat(300).leak();
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let policy = |policy: &mut TrafficPolicy| {
            policy.timeouts.read = SHORT;
            policy.upstream.protocol = protocol;
        };
        world.serve_with("blog", &[echo.address], policy);
        world.serve_with("mute", &[silent.address], policy);
        for client in [world.h1(), world.h2()] {
            for length in [None, Some(piece.len() * SLOW_PIECES)] {
                let post = |app: &str| {
                    let request = client.post(world.url(app, "/")).body(slow_body(piece));
                    match length {
                        None => request,
                        Some(length) => request.header("content-length", length),
                    }
                };
                let (answer, none) = tokio::join!(post("blog").send(), post("mute").send());
                let (answer, none) = (answer.unwrap(), none.unwrap());
                assert_eq!(answer.status(), 200, "{protocol:?}, {length:?}");
                let echoed: serde_json::Value = answer.json().await.unwrap();
                assert_eq!(echoed["body"].as_str().unwrap(), piece.repeat(SLOW_PIECES));
                assert_eq!(none.status(), 504, "{protocol:?}, {length:?}");
            }
        }
    }
    assert_eq!(silent.hits(), 8, "all of it was there");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_tunnel_and_gets_an_answer_waits_for_it_as_for_any() {
    let mut world = World::start();
    let stalls = Scripted::start(|_| Act::Stall).await;
    world.serve_with("chat", &[stalls.address], |policy| policy.timeouts.read = SHORT);
    let mut raw = world.raw("chat.apps.test").await;
    raw.send(HANDSHAKE).await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n1\r\n.\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_is_waited_for_no_longer_than_any_answer() {
    let mut world = World::start();
    let silent = Scripted::start(|_| Act::Silence).await;
    world.serve_with("chat", &[silent.address], |policy| policy.timeouts.read = SHORT);
    let mut raw = world.raw("chat.apps.test").await;
    raw.send(HANDSHAKE).await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_like_a_handshake_has_the_bounds_of_any_request() {
    let mut world = World::start();
    let echo = Echo::start("echo").await;
    world.serve_with("chat", &[echo.address], |policy| policy.timeouts.read = SHORT);
    for method in ["GET", "POST"] {
        let mut raw = world.raw("chat.apps.test").await;
        let head =
            HANDSHAKE.replacen("GET", method, 1).replace("Host", "Content-Length: 9\r\nHost");
        raw.send(&head).await;
        raw.send("some").await;
        let answer = raw.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{method}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_may_be_silent_for_longer_than_an_answer() {
    let mut world = World::start();
    world.serve_with("chat", &[web_socket().await], |policy| {
        policy.timeouts.read = SHORT;
        policy.timeouts.write = SHORT;
        policy.timeouts.total = Some(SHORT);
    });
    let mut raw = world.raw("chat.apps.test").await;
    raw.send(HANDSHAKE).await;
    raw.read_until("hello\n").await;
    // Nothing happens for a while; that is what is tested.
    tokio::time::sleep(3 * SHORT).await;
    raw.send("still there\n").await;
    assert_eq!(raw.read_until("\n").await, ">still there\n");
}

/// A tunnel may be silent for an hour; a request that only says that it wants one may not.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_tunnel_with_a_body_gets_no_tunnel_s_patience() {
    let mut world = World::start();
    let echo = Echo::start("echo").await;
    world.serve_with("blog", &[echo.address], |policy| policy.timeouts.read = SHORT);
    let mut raw = world.raw("blog.apps.test").await;
    raw.send(
        "POST / HTTP/1.1\r\nHost: blog.apps.test\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nContent-Length: 10\r\n\r\nsome",
    )
    .await;
    let head = raw.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
}
