//! A request that goes through.

use futures::stream;
use reqwest::{Body, Client, Version};
use serde_json::Value;
use weir_config::Moment;

use crate::{
    harness::{World, eventually, serving},
    upstreams::{Echo, chunked, received, strict},
};

async fn check_get_and_post(world: &World, client: &Client, version: Version) {
    let response = client.get(world.url("blog", "/a%20b?c=d")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, version));
    let echoed: Value = response.json().await.unwrap();
    assert_eq!(echoed["path"], "/a%20b?c=d");
    assert_eq!(echoed["version"], "HTTP/1.1");
    assert_eq!(received(&echoed, "host"), [format!("blog.apps.test:{}", world.https.port())]);

    let body = "x".repeat(200_000);
    let response = client.post(world.url("blog", "/")).body(body.clone()).send().await.unwrap();
    let echoed: Value = response.json().await.unwrap();
    assert_eq!((&echoed["method"], &echoed["body"]), (&"POST".into(), &body.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_reached_over_http_1_and_2_with_a_verified_certificate() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    check_get_and_post(&world, &world.h1(), Version::HTTP_11).await;
    check_get_and_post(&world, &world.h2(), Version::HTTP_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_claim_is_replaced_by_what_is_known() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    for client in [world.h1(), world.h2()] {
        let request = client
            .get(world.url("blog", "/"))
            .header("X-Forwarded-For", "1.2.3.4")
            .header("X-Forwarded-For", "5.6.7.8")
            .header("X-Forwarded-Proto", "http")
            .header("X-Forwarded-Host", "bank.apps.test")
            .header("X-Forwarded-Port", "1")
            .header("X-Forwarded-Prefix", "/admin")
            .header("X-Real-IP", "1.2.3.4")
            .header("Forwarded", "for=1.2.3.4")
            .header("X-Request-Id", "mine")
            // To an app that is given headers as variables, these are the same.
            .header("X_Forwarded_For", "1.2.3.4")
            .header("X-Real_IP", "1.2.3.4")
            .header("Client_Cert", ":mine:")
            .header("X-Other", "kept");
        let echoed: Value = request.send().await.unwrap().json().await.unwrap();
        let host = format!("blog.apps.test:{}", world.https.port());
        assert_eq!(received(&echoed, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(received(&echoed, "x-forwarded-proto"), ["https"]);
        assert_eq!(received(&echoed, "x-forwarded-host"), [host]);
        for gone in ["x-forwarded-port", "x-forwarded-prefix", "x-real-ip", "forwarded"] {
            assert!(received(&echoed, gone).is_empty(), "{gone} came through");
        }
        for gone in ["x_forwarded_for", "x-real_ip", "client_cert"] {
            assert!(received(&echoed, gone).is_empty(), "{gone} came through");
        }
        let [request_id] = received(&echoed, "x-request-id")[..] else { panic!("{echoed}") };
        assert_eq!((request_id.len(), request_id == "mine"), (32, false));
        assert_eq!(received(&echoed, "x-other"), ["kept"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_in_flight_on_its_app_and_endpoint_until_its_answer_ends() {
    let mut world = World::start();
    let echo = Echo::start_closed("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let (app, endpoint) = (world.app("blog"), world.in_flight_on("blog", 0));

    eventually("the clock has moved", || Moment::now() > Moment(0)).await;
    let before = Moment::now();
    let sent = tokio::spawn(world.h1().get(world.url("blog", "/")).send());
    eventually("the app has the request", || echo.hits() == 1).await;
    assert_eq!((app.in_flight(), endpoint.in_flight()), (1, 1));
    assert!(app.last_request() >= before, "the idle clock was not touched");
    echo.open();
    assert_eq!(sent.await.unwrap().unwrap().status(), 200);
    eventually("both leases end", || (app.in_flight(), endpoint.in_flight()) == (0, 0)).await;
    assert_eq!(app.statuses(), [0, 1, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_spread_to_the_less_busy_endpoint() {
    let mut world = World::start();
    let (a, b) = (Echo::start_closed("a").await, Echo::start_closed("b").await);
    let endpoints =
        vec![world.endpoint("blog", 0, a.address), world.endpoint("blog", 1, b.address)];
    world.serve("blog", serving(endpoints));
    let client = world.h1();
    let mut sent = Vec::new();
    for n in 1..=6 {
        sent.push(tokio::spawn(client.get(world.url("blog", "/")).send()));
        eventually("the request arrived", || a.hits() + b.hits() == n).await;
    }
    assert_eq!((a.hits(), b.hits()), (3, 3));
    a.open();
    b.open();
    for sent in sent {
        assert_eq!(sent.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_on_one_connection_are_answered_in_order() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let mut raw = world.raw("blog.apps.test").await;
    raw.send(
        "GET /1 HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n\
         GET /2 HTTP/1.1\r\nHost: blog.apps.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    let answers = raw.read_to_end().await;
    let (first, second) = (answers.find("\"/1\"").unwrap(), answers.find("\"/2\"").unwrap());
    assert!(first < second, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_sees_the_end_of_its_answer() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    world.serve("stream", world.serving("stream", chunked().await));
    for keep_alive in ["", "Connection: keep-alive\r\n"] {
        let mut raw = world.raw("stream.apps.test").await;
        let host = "Host: stream.apps.test\r\n";
        raw.send(&format!("GET / HTTP/1.0\r\n{host}{keep_alive}\r\n")).await;
        let answer = raw.read_to_end().await;
        assert!(answer.ends_with("\r\n\r\nsomemore"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
    let mut raw = world.raw("blog.apps.test").await;
    raw.send("GET /old HTTP/1.0\r\nHost: blog.apps.test\r\n\r\n").await;
    assert!(raw.read_to_end().await.contains("\"/old\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_in_headers_of_their_own_become_one_header() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let request = world.h2().get(world.url("blog", "/"));
    let request = request.header("Cookie", "a=1").header("Cookie", "b=2");
    let echoed: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(received(&echoed, "cookie"), ["a=1; b=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_body_ends_once() {
    let mut world = World::start();
    world.serve("blog", world.serving("blog", strict().await));
    for client in [world.h1(), world.h2()] {
        for n in 0..20 {
            let chunks = ["some", "more"].map(Ok::<_, std::io::Error>);
            let body = Body::wrap_stream(stream::iter(chunks));
            let sent = client.post(world.url("blog", &format!("/{n}"))).body(body).send().await;
            // What the instance saw where the request should start.
            let text = sent.unwrap().text().await.unwrap();
            assert_eq!(text, format!("POST /{n} HTTP/1.1"));
        }
    }
}
