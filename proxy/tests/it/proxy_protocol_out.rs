//! Instances that are told whose connection it is by the PROXY protocol.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use weir_config::{ProxyProtocol, UpstreamProtocol};

use crate::{
    clients::read_until,
    harness::{Ca, DEADLINE, World, eventually},
    tunnels::HANDSHAKE,
    upstreams::bind,
};

/// Answers every request with the header that its connection began with, and the connection's
/// number.
async fn tells_its_header() -> std::net::SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let header = read_header(&mut stream).await;
                loop {
                    read_until(&mut stream, "\r\n\r\n").await;
                    let body = format!("{number} {header}");
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

/// Either version's, as the first version writes it.
async fn read_header(stream: &mut TcpStream) -> String {
    let mut start = [0; 16];
    stream.read_exact(&mut start).await.unwrap();
    if start.starts_with(b"PROXY ") {
        let rest = read_until(stream, "\r\n").await;
        return format!("{}{}", String::from_utf8_lossy(&start), rest.trim_end());
    }
    assert_eq!(start, *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c");
    let mut addresses = [0; 12];
    stream.read_exact(&mut addresses).await.unwrap();
    let port = |at| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    let ip =
        |at: usize| addresses[at..at + 4].iter().map(u8::to_string).collect::<Vec<_>>().join(".");
    format!("PROXY TCP4 {} {} {} {}", ip(0), ip(4), port(8), port(10))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_connections_of_its_own_that_begin_with_its_address() {
    let mut world = World::start();
    let address = tells_its_header().await;
    let mut number = 0;
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        world.serve_with("blog", &[address], |policy| {
            policy.upstream.proxy_protocol = Some(version)
        });
        for _ in 0..2 {
            let mut raw = world.raw("blog.apps.test").await;
            let port = raw.0.get_ref().0.local_addr().unwrap().port();
            let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}", world.https.port());
            for _ in 0..2 {
                raw.send("GET / HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n").await;
                let answer = raw.read_until(&header).await;
                assert!(answer.ends_with(&format!("\r\n\r\n{number} {header}")), "{answer}");
            }
            number += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_comes_before_tls_and_before_http_2_and_before_a_web_socket() {
    let mut world = World::start();
    let ca = Ca::new();
    let acceptor = ca.acceptor("backend.internal", &["h2", "http/1.1"]);
    let (listener, address) = bind().await;
    let (seen, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let header = read_header(&mut stream).await;
            let tls = acceptor.accept(stream).await.unwrap();
            let protocol = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec).unwrap();
            seen.send((header, String::from_utf8(protocol).unwrap())).unwrap();
        }
    });
    world.serve_with("blog", &[address], |policy| {
        policy.upstream.protocol = UpstreamProtocol::Http2;
        policy.upstream.proxy_protocol = Some(ProxyProtocol::V2);
        let (server_name, roots) =
            ("backend.internal".parse().unwrap(), Some([ca.der()].into_iter().collect()));
        policy.upstream.tls = Some(weir_config::UpstreamTls { server_name, roots });
    });
    let get = "GET / HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n";
    let handshake = HANDSHAKE.replace("chat.apps", "blog.apps");
    for (request, protocol) in [(get, "h2"), (&*handshake, "http/1.1")] {
        let mut raw = world.raw("blog.apps.test").await;
        raw.send(request).await;
        let port = raw.0.get_ref().0.local_addr().unwrap().port();
        let told = |header: &str| header.contains(&format!(" {port} "));
        // Those of the former client may be retries.
        let spoken = loop {
            let next = timeout(DEADLINE, heard.recv()).await.expect("no such header came");
            let (header, spoken) = next.unwrap();
            if told(&header) {
                break spoken;
            }
        };
        assert_eq!(spoken, protocol);
    }
    let app = world.app("blog");
    eventually("both are over", || app.in_flight() == 0).await;
}
