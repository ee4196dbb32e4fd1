//! Instances behind TLS: whom the proxy believes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use weir_config::{TrafficPolicy, UpstreamProtocol, UpstreamTls};

use crate::{
    harness::{Ca, World, logged},
    tunnels::{HANDSHAKE, check_both_ways},
    upstreams::{Echo, web_socket_tls},
};

const NAME: &str = "backend.internal";

fn trusting(roots: Option<Arc<[u8]>>) -> impl FnOnce(&mut TrafficPolicy) {
    |policy| {
        let roots = roots.map(|root| [root].into_iter().collect());
        policy.upstream.tls = Some(UpstreamTls { server_name: NAME.parse().unwrap(), roots });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_verified_and_its_connections_are_used_again() {
    let mut world = World::start();
    let ca = Ca::new();
    for (protocol, alpn, version) in [
        (UpstreamProtocol::Http1, "http/1.1", "HTTP/1.1"),
        (UpstreamProtocol::Http2, "h2", "HTTP/2.0"),
    ] {
        let echo = Echo::start_tls("backend", ca.acceptor(NAME, &[alpn])).await;
        world.serve_with("blog", &[echo.address], |policy| {
            trusting(Some(ca.der()))(policy);
            policy.upstream.protocol = protocol;
        });
        for client in [world.h1(), world.h2()] {
            for _ in 0..3 {
                let sent = client.post(world.url("blog", "/")).body("kept").send().await.unwrap();
                let echoed: Value = sent.json().await.unwrap();
                assert_eq!(
                    (&echoed["version"], &echoed["body"]),
                    (&version.into(), &"kept".into())
                );
            }
        }
        assert_eq!(echo.connections(), 1, "{alpn}");
    }
}

async fn check_refused(world: &mut World, address: SocketAddr, root: Option<&Ca>, why: &str) {
    world.serve_with("blog", &[address], trusting(root.map(Ca::der)));
    let path = format!("/untrusted/{}", why.replace(' ', "-"));
    let response = world.h1().get(world.url("blog", &path)).send().await.unwrap();
    assert_eq!(response.status(), 502, "{why}");
    let page = response.text().await.unwrap();
    assert!(page.contains("does not prove who it is") && !page.contains(NAME), "{page}");
    let entry = logged(&path).await;
    assert!(entry["error"].as_str().unwrap().contains(why), "{why} is not in {entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_prove_who_it_is_gets_no_request() {
    let mut world = World::start();
    let (ca, other) = (Ca::new(), Ca::new());
    let good = Echo::start_tls("good", ca.acceptor(NAME, &[])).await;
    let named = Echo::start_tls("named", ca.acceptor("other.internal", &[])).await;
    let expired = Echo::start_tls("expired", ca.acceptor_until(2020, NAME, &[])).await;
    let plain = Echo::start("plain").await;

    check_refused(&mut world, named.address, Some(&ca), "not valid for name").await;
    check_refused(&mut world, expired.address, Some(&ca), "certificate expired").await;
    check_refused(&mut world, good.address, Some(&other), "BadSignature").await;
    // The public authorities know nothing of it either.
    check_refused(&mut world, good.address, None, "invalid peer certificate: UnknownIssuer").await;
    check_refused(&mut world, plain.address, Some(&ca), "corrupt message").await;
    for echo in [&good, &named, &expired, &plain] {
        assert_eq!(echo.hits(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_not_used_under_another_policy_than_it_was_made_under() {
    let mut world = World::start();
    let (ca, other) = (Ca::new(), Ca::new());
    let echo = Echo::start_tls("backend", ca.acceptor(NAME, &[])).await;
    let client = world.h1();
    for (trusted, status) in [(&ca, 200), (&other, 502), (&ca, 200)] {
        let address = echo.address;
        world.serve_with("blog", &[address], trusting(Some(trusted.der())));
        let response = client.get(world.url("blog", "/")).send().await.unwrap();
        assert_eq!(response.status(), status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_never_answers_the_handshake_is_given_up() {
    let mut world = World::start();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    world.serve_with("blog", &[address], |policy| {
        trusting(None)(policy);
        policy.timeouts.connect = Duration::from_millis(50);
    });
    let response = world.h1().get(world.url("blog", "/")).send().await.unwrap();
    assert_eq!(response.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_go_over_tls_and_over_http_1_1_whatever_the_app_speaks() {
    let mut world = World::start();
    let ca = Ca::new();
    let address = web_socket_tls(ca.acceptor(NAME, &["h2", "http/1.1"])).await;
    world.serve_with("chat", &[address], |policy| {
        trusting(Some(ca.der()))(policy);
        policy.upstream.protocol = UpstreamProtocol::Http2;
    });
    for _ in 0..50 {
        let mut raw = world.raw("chat.apps.test").await;
        raw.send(HANDSHAKE).await;
        check_both_ways(&mut raw).await;
    }
}
