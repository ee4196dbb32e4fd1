//! Proxies in front of this one, and strangers who pretend to be.

use reqwest::Client;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use weir_config::{Networks, PlainHttp};

use crate::{
    clients::Raw,
    harness::World,
    upstreams::{Echo, received},
};

fn loopback() -> Networks {
    Networks::parse(&["127.0.0.0/8"]).unwrap()
}

/// A world in which one app answers over HTTP and HTTPS with what it was asked.
async fn echoing(world: &mut World) -> Echo {
    let echo = Echo::start("blog").await;
    let mut route = world.route("blog", world.serving("blog", echo.address));
    std::sync::Arc::make_mut(&mut route.policy).plain_http = PlainHttp::Serve;
    world.control.publish(|snapshot| snapshot.insert(route));
    echo
}

/// Who the app was told asks.
async fn asker(mut raw: Raw<impl AsyncRead + AsyncWrite + Unpin>) -> String {
    raw.send("GET / HTTP/1.1\r\nHost: blog.apps.test\r\nConnection: close\r\n\r\n").await;
    let answer = raw.read_to_end().await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let echoed: Value = serde_json::from_str(body).unwrap();
    received(&echoed, "x-forwarded-for").concat()
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

/// Headers with the client that each names; with none, it is the load balancer itself.
fn headers() -> Vec<(Vec<u8>, &'static str)> {
    let ipv4 = [192, 0, 2, 1, 127, 0, 0, 1, 0x12, 0x34, 1, 187];
    let mut ipv6 = [0; 36];
    ipv6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    ipv6[15] = 7;
    let tlvs = [&ipv4[..], &[4, 0, 3, 0, 0, 0, 0xee, 0, 2, 1, 2]].concat();
    let long = [&ipv4[..], &[4, 0x0f, 0], &[0; 0x0f00]].concat();
    vec![
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 443\r\n".to_vec(), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::7 ::1 4660 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN ffff:f...f:ffff whatever\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &ipv4), "192.0.2.1"),
        (v2(0x21, 0x21, &ipv6), "2001:db8::7"),
        (v2(0x21, 0x11, &tlvs), "192.0.2.1"),
        (v2(0x21, 0x11, &long), "192.0.2.1"),
        (v2(0x20, 0x00, &[]), "127.0.0.1"),
        (v2(0x20, 0x11, &ipv4), "127.0.0.1"),
        (v2(0x21, 0x00, &[]), "127.0.0.1"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_names_the_client_in_a_proxy_header() {
    let mut world = World::with(|settings| settings.proxy_protocol = loopback());
    let _echo = echoing(&mut world).await;
    for (header, client) in headers() {
        let text = header.escape_ascii().to_string();
        let mut plain = world.plain().await;
        plain.send(&header).await;
        assert_eq!(asker(plain).await, client, "{text}");
        let tls = world.raw_after(&header, "blog.apps.test").await;
        assert_eq!(asker(tls).await, client, "{text}");
        // In pieces, too.
        let mut plain = world.plain().await;
        for byte in header.iter().take(120) {
            plain.send([*byte]).await;
        }
        plain.send(&header[header.len().min(120)..]).await;
        assert_eq!(asker(plain).await, client, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_that_sends_no_good_header_is_not_served() {
    let mut world = World::with(|settings| settings.proxy_protocol = loopback());
    let echo = echoing(&mut world).await;
    let bad: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4660\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 ::1 4660 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.256 127.0.0.1 1 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 443\n".to_vec(),
        [b"PROXY ", &[b'x'; 200][..], b"\r\n"].concat(),
        v2(0x21, 0x11, &[1, 2, 3]),
        v2(0x31, 0x11, &[0; 12]),
        v2(0x22, 0x11, &[0; 12]),
        v2(0x21, 0x99, &[0; 12]),
        v2(0x21, 0x11, &[0; 4097]),
    ];
    for (count, header) in bad.iter().enumerate() {
        let mut raw = world.plain().await;
        let _ = raw.0.try_write(header);
        assert_eq!(raw.read_to_end().await, "", "{}", header.escape_ascii());
        let refused = world.metric("weir_connections_dropped_total{reason=\"bad_proxy_header\"}");
        assert_eq!(refused, count as f64 + 1.0, "{}", header.escape_ascii());
    }
    assert_eq!(echo.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_names_nobody_in_a_proxy_header() {
    let elsewhere = Networks::parse(&["192.0.2.0/24"]).unwrap();
    let mut world = World::with(|settings| settings.proxy_protocol = elsewhere);
    let echo = echoing(&mut world).await;
    for (header, _) in headers() {
        let mut raw = world.plain().await;
        raw.send(&header).await;
        raw.send("GET / HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n").await;
        let answer = raw.read_until("\r\n").await;
        assert_eq!(answer, "HTTP/1.1 400 Bad Request\r\n", "{}", header.escape_ascii());
    }
    assert_eq!(echo.hits(), 0);
    assert_eq!(asker(world.plain().await).await, "127.0.0.1");
}

async fn ask(client: &Client, url: String) -> Value {
    let request = client
        .get(url)
        .header("X-Forwarded-For", "6.6.6.6, 192.0.2.1")
        .header("X-Forwarded-For", "127.0.0.9")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "bank.apps.test");
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trusted_proxy_says_of_its_client_is_believed() {
    let mut world = World::with(|settings| settings.trusted_proxies = loopback());
    let _echo = echoing(&mut world).await;
    for client in [world.h1(), world.h2()] {
        for url in [
            world.url("blog", "/trusted"),
            format!("http://blog.apps.test:{}/trusted", world.http.port()),
        ] {
            let echoed = ask(&client, url).await;
            assert_eq!(received(&echoed, "x-forwarded-for"), ["192.0.2.1"]);
            assert_eq!(received(&echoed, "x-forwarded-proto"), ["https"]);
            assert_ne!(received(&echoed, "x-forwarded-host"), ["bank.apps.test"]);
        }
    }
    assert_eq!(crate::harness::logged("/trusted").await["client_ip"], "192.0.2.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_says_of_a_client_is_not_believed() {
    let elsewhere = Networks::parse(&["192.0.2.0/24"]).unwrap();
    let mut world = World::with(|settings| settings.trusted_proxies = elsewhere);
    let _echo = echoing(&mut world).await;
    for client in [world.h1(), world.h2()] {
        let plain = format!("http://blog.apps.test:{}/", world.http.port());
        for (url, scheme) in [(world.url("blog", "/"), "https"), (plain, "http")] {
            let echoed = ask(&client, url).await;
            assert_eq!(received(&echoed, "x-forwarded-for"), ["127.0.0.1"]);
            assert_eq!(received(&echoed, "x-forwarded-proto"), [scheme]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_up_to_a_trusted_proxy_is_not_sent_to_https_again() {
    for (trusted, status) in [(loopback(), 200), (Networks::default(), 308)] {
        let mut world = World::with(|settings| settings.trusted_proxies = trusted);
        let echo = Echo::start("blog").await;
        world.serve("blog", world.serving("blog", echo.address));
        let url = format!("http://blog.apps.test:{}/", world.http.port());
        let request = world.h1().get(url).header("X-Forwarded-Proto", "https");
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}
