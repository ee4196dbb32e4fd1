//! What the proxy answers by itself.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weir_config::{AppRoute, PlainHttp, RouteState, TrafficPolicy};

use crate::{
    clients::read_until,
    harness::{Ca, World, certificates, eventually, logged},
    upstreams::Echo,
};

async fn plain(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_sent_to_https_and_wakes_nothing() {
    let mut world = World::start();
    world.serve("blog", RouteState::Asleep(weir_config::SleepLevel::Stopped));
    let port = world.https.port();
    for (host, target, location) in [
        ("Blog.apps.test:80", "/a?b=c", format!("https://blog.apps.test:{port}/a?b=c")),
        ("nobody.apps.test", "/", format!("https://nobody.apps.test:{port}/")),
        (
            "blog.apps.test",
            "http://blog.apps.test/whole",
            format!("https://blog.apps.test:{port}/whole"),
        ),
        ("blog.apps.test", "//evil.test/", format!("https://blog.apps.test:{port}//evil.test/")),
    ] {
        let answer =
            plain(&world, &format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{answer}");
        let line = format!("\r\nlocation: {location}\r\n");
        assert!(answer.to_lowercase().contains(&line), "{line} is not in {answer}");
    }
    for request in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"] {
        let answer = plain(&world, request).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    }
    assert!(world.hints.is_empty());
    assert_eq!((world.app("blog").held(), world.app("blog").last_request().0), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_another_sends_clients_there_and_wakes_nothing() {
    let mut world = World::start();
    let route = world.route("blog", RouteState::Asleep(weir_config::SleepLevel::Stopped));
    let policy = |plain_http| {
        let names = |(from, to): (&str, &str)| (from.parse().unwrap(), to.parse().unwrap());
        let redirects = [("old.apps.test", "blog.apps.test")].map(names).into();
        Arc::new(TrafficPolicy { redirects, plain_http, ..(*route.policy).clone() })
    };
    let hostnames: Vec<_> =
        ["blog.apps.test", "old.apps.test"].map(|name| name.parse().unwrap()).into();
    let publish = |world: &mut World, plain_http| {
        let (hostnames, policy) = (hostnames.clone(), policy(plain_http));
        let route = AppRoute { hostnames, policy, ..route.clone() };
        world.control.publish(|snapshot| snapshot.insert(route));
    };
    publish(&mut world, PlainHttp::Redirect);
    let location = format!("https://blog.apps.test:{}/a?b=c", world.https.port());
    for client in [world.h1(), world.h2()] {
        let sent = client.post(format!("https://old.apps.test:{}/a?b=c", world.https.port()));
        let answer = sent.body("kept").send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
            (308, &*location)
        );
    }
    // Without TLS it is sent to its own HTTPS first, unless the app is served without.
    for (plain_http, location) in [
        (PlainHttp::Redirect, format!("https://old.apps.test:{}/x", world.https.port())),
        (PlainHttp::Serve, "http://blog.apps.test:8080/x".to_owned()),
    ] {
        publish(&mut world, plain_http);
        let answer = plain(&world, "GET /x HTTP/1.1\r\nHost: old.apps.test:8080\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{answer}");
        let line = format!("\r\nlocation: {location}\r\n");
        assert!(answer.to_lowercase().contains(&line), "{line} is not in {answer}");
    }
    assert!(world.hints.is_empty());
    assert_eq!(world.app("blog").held(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_gets_a_page_that_says_so_in_the_format_it_accepts() {
    let world = World::start();
    for client in [world.h1(), world.h2()] {
        for (accept, content_type) in [
            ("text/html,*/*;q=0.8", "text/html; charset=utf-8"),
            ("application/json", "application/json"),
            ("*/*", "text/plain; charset=utf-8"),
        ] {
            let request = client.get(world.url("nobody", "/")).header(header::ACCEPT, accept);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 404);
            assert_eq!(response.headers()[header::CONTENT_TYPE], content_type);
            let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
            let page = response.text().await.unwrap();
            assert!(page.contains("No app is served at nobody.apps.test"), "{page}");
            assert!(page.contains(&request_id), "{page}");
        }
        let head = client.request(Method::HEAD, world.url("nobody", "/")).send().await.unwrap();
        assert_eq!(head.status(), 404);
        // The connection is still good.
        assert_eq!(client.get(world.url("nobody", "/")).send().await.unwrap().status(), 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_host_is_a_bad_request() {
    let world = World::start();
    let mut raw = world.raw("blog.apps.test").await;
    raw.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_app_says_when_to_come_again_and_why_only_to_its_operator() {
    let mut world = World::start();
    let reason = "GET /health at 10.0.0.7 answered 500: password rejected";
    let retry_after = Duration::from_secs(7);
    world.serve("blog", RouteState::Unavailable { reason: reason.to_owned(), retry_after });
    for (client, path) in [(world.h1(), "/why/1"), (world.h2(), "/why/2")] {
        for accept in ["text/html", "application/json", "*/*"] {
            let request = client.get(world.url("blog", path)).header("weir-debug", "1");
            let response = request.header(header::ACCEPT, accept).send().await.unwrap();
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()[header::RETRY_AFTER], "7");
            let headers = format!("{:?}", response.headers());
            let page = response.text().await.unwrap();
            assert!(page.contains("cannot be served at the moment"), "{page}");
            for part in ["10.0.0.7", "health", "password"] {
                assert!(!headers.contains(part) && !page.contains(part), "{headers} {page}");
            }
        }
        let entry = logged(path).await;
        assert_eq!((&entry["status"], &entry["error"]), (&503.into(), &reason.into()));
    }
    let app = world.app("blog");
    eventually("all are counted", || app.statuses() == [0, 0, 0, 0, 6]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_s_question_is_answered_before_anything_else_and_wakes_nothing() {
    let mut world = World::start();
    world.serve("blog", RouteState::Asleep(weir_config::SleepLevel::Stopped));
    world.control.publish(|snapshot| {
        snapshot.http_challenges.insert("token".into(), "token.thumbprint".into());
    });
    let ask = async |host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(world.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for host in ["blog.apps.test", "nobody.else.test"] {
        let answer = ask(host, "/.well-known/acme-challenge/token").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\ntoken.thumbprint"), "{answer}");
        for other in ["toke", "token/", "token2", ""] {
            let answer = ask(host, &format!("/.well-known/acme-challenge/{other}")).await;
            assert!(answer.starts_with("HTTP/1.1 308 "), "an app may have its own: {answer}");
        }
    }
    assert!(world.hints.is_empty(), "nobody is woken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_for_one_certificate_carries_no_requests_for_another() {
    let ca = Ca::new();
    let all = certificates([ca.issue(&["a.apps.test", "b.apps.test"]), ca.issue(&["c.apps.test"])]);
    let mut world = World::start_with(ca, all);
    let echo = Echo::start("any").await;
    for app in ["a", "b", "c"] {
        world.serve(app, world.serving(app, echo.address));
    }
    for (host, status) in
        [("a.apps.test", "200 OK"), ("b.apps.test", "200 OK"), ("c.apps.test", "421 ")]
    {
        let mut raw = world.raw("a.apps.test").await;
        raw.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        let answer = raw.read_to_end().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
    }
}

#[tokio::test]
async fn plain_http_is_served_where_the_app_says_so() {
    let mut world = World::start();
    let echo = Echo::start("a").await;
    let mut route = world.route("blog", world.serving("blog", echo.address));
    Arc::make_mut(&mut route.policy).plain_http = PlainHttp::Serve;
    world.control.publish(|snapshot| snapshot.insert(route));
    let request = reqwest::Client::new().get(format!("http://{}/", world.http));
    let answer = request.header("host", "blog.apps.test").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(echo.hits(), 1);
}
