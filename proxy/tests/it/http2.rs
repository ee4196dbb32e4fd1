//! HTTP/2 to instances, without TLS (h2c) and from clients of every version.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue},
    routing::get,
};
use futures::{StreamExt, future::join_all, stream};
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use weir_config::UpstreamProtocol;

use crate::{
    harness::{World, eventually},
    upstreams::{Echo, received, serve},
};

fn http2(world: &mut World, app: &str, address: SocketAddr) {
    world.serve_with(app, &[address], |policy| policy.upstream.protocol = UpstreamProtocol::Http2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_any_version_reach_an_app_that_speaks_http_2() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    let address = echo.address;
    http2(&mut world, "blog", address);
    for client in [world.h1(), world.h2()] {
        let url = world.url("blog", "/path?query=1");
        let sent = client.post(&url).header("X-Other", "kept").body("kept").send().await.unwrap();
        let echoed: Value = sent.json().await.unwrap();
        assert_eq!(echoed["version"], "HTTP/2.0");
        let uri = echoed["path"].as_str().unwrap();
        assert!(uri.ends_with("/path?query=1"), "{uri}");
        assert_eq!((&echoed["method"], &echoed["body"]), (&"POST".into(), &"kept".into()));
        assert_eq!(received(&echoed, "x-other"), ["kept"]);
        assert_eq!(received(&echoed, "x-forwarded-proto"), ["https"]);
        assert_eq!(received(&echoed, "connection"), [""; 0]);

        let head = client.head(&url).send().await.unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(head.text().await.unwrap(), "");
        let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![7; 10_000])));
        let body = reqwest::Body::wrap_stream(stream::iter(chunks));
        let echoed: Value =
            client.post(&url).body(body).send().await.unwrap().json().await.unwrap();
        assert_eq!(echoed["body"].as_str().unwrap().len(), 1_000_000);
    }
    assert_eq!(echo.connections(), 3, "one for each upload, and one for all others");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_share_a_connection() {
    let mut world = World::start();
    let echo = Echo::start_closed("blog").await;
    let address = echo.address;
    http2(&mut world, "blog", address);
    let client = world.h2();
    let mut sent = Vec::new();
    for n in 1..=40 {
        sent.push(tokio::spawn(client.get(world.url("blog", "/")).send()));
        eventually("the request arrived", || echo.hits() == n).await;
    }
    assert_eq!(echo.connections(), 2, "32 on the first, 8 on the second");
    echo.open();
    for sent in join_all(sent).await {
        assert_eq!(sent.unwrap().unwrap().status(), 200);
    }
}

/// Those who share a connection have a window each and none in common.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_do_not_stop_those_that_do() {
    let mut world = World::start();
    let endless = || async {
        let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(&[7; 16 << 10]));
        Body::from_stream(stream::repeat_with(chunk))
    };
    let app = Router::new().route("/endless", get(endless)).route("/", get(|| async { "here" }));
    let address = serve(app).await;
    http2(&mut world, "blog", address);
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let response = world.h2().get(world.url("blog", "/endless")).send().await.unwrap();
        stuck.push(response);
    }
    // Each has filled every buffer on its way by the time that nothing moves any more.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let client = world.h2();
    for _ in 0..20 {
        assert_eq!(
            client.get(world.url("blog", "/")).send().await.unwrap().text().await.unwrap(),
            "here"
        );
    }
    let app = world.app("blog");
    drop(stuck);
    eventually("those who left are counted no more", || app.in_flight() == 0).await;
}

/// A body and then a trailer.
async fn with_trailer() -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let frames =
        [http_body::Frame::data(Bytes::from_static(b"some")), http_body::Frame::trailers(trailers)];
    Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, std::io::Error>))))
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_an_answer_come_through() {
    let mut world = World::start();
    let address = serve(Router::new().fallback(get(with_trailer))).await;
    http2(&mut world, "blog", address);
    let response = world.h2().get(world.url("blog", "/")).send().await.unwrap();
    let body: axum::http::Response<reqwest::Body> = response.into();
    let collected = body.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
    assert_eq!(collected.to_bytes(), "some");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let mut world = World::start();
    let broken = || async {
        let chunks = [Ok(Bytes::from_static(b"some")), Err(std::io::Error::other("broken"))];
        Body::from_stream(stream::iter(chunks).then(|chunk| async {
            tokio::task::yield_now().await;
            chunk
        }))
    };
    let address = serve(Router::new().fallback(get(broken))).await;
    http2(&mut world, "blog", address);
    for client in [world.h1(), world.h2()] {
        let sent = client.get(world.url("blog", "/")).send().await;
        let whole = match sent {
            Ok(response) if response.status() == 200 => response.bytes().await.is_ok(),
            _ => false,
        };
        assert!(!whole, "the client took half an answer for a whole one");
    }
}
