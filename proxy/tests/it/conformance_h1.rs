//! RFC 9112 (HTTP/1.1) and what RFC 9110 asks of one who forwards: cases as data. What two parsers
//! could read differently is in `smuggling`.
//!
//! Two MUSTs are left out on purpose. No `Via` is added (RFC 9110 section 7.6.3): what it tells an
//! app is in `X-Forwarded-*`, and servers that see one stop compressing. And `Max-Forwards` (7.6.2)
//! goes on as it came: `TRACE` through a gateway is a way to read what it adds, so it is the app's to
//! refuse. Trailers of requests are not passed on, which 6.5.1 allows.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    clients::read_until,
    harness::{DEADLINE, World},
    upstreams::bind,
};

/// Answers with the request as it came, head and body.
async fn mirror() -> std::net::SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                loop {
                    let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
                    let length = head.split("content-length: ").nth(1);
                    let body = match length.map(|rest| rest.split("\r\n").next().unwrap()) {
                        Some(length) => {
                            let mut body = vec![0; length.parse().unwrap()];
                            stream.read_exact(&mut body).await.unwrap();
                            String::from_utf8(body).unwrap()
                        }
                        None if head.contains("chunked") => {
                            read_until(&mut stream, "0\r\n\r\n").await
                        }
                        None => String::new(),
                    };
                    let seen = head + &body;
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{seen}", seen.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

const HOST: &str = "Host: blog.apps.test\r\n";

enum Must {
    /// The app sees all of the first and nothing of the second, in lowercase.
    Forward(&'static [&'static str], &'static [&'static str]),
    /// The app sees nothing, and the client one of these.
    Refuse(&'static [u16]),
}
use Must::{Forward, Refuse};

/// The line of the request with what follows; `HOST` stands for the app's.
const CASES: &[(&str, &str, Must)] = &[
    ("a request", "GET /a?b HTTP/1.1\r\nHOST\r\n", Forward(&["get /a?b http/1.1\r\n"], &[])),
    ("a method of its own", "BREW / HTTP/1.1\r\nHOST\r\n", Forward(&["brew / "], &[])),
    (
        "the whole URL",
        "GET https://blog.apps.test/a HTTP/1.1\r\nHOST\r\n",
        Forward(&["host: blog.apps.test"], &[]),
    ),
    ("OPTIONS of the server", "OPTIONS * HTTP/1.1\r\nHOST\r\n", Forward(&["options * "], &[])),
    ("empty lines before", "\r\nGET / HTTP/1.1\r\nHOST\r\n", Forward(&["get / "], &[])),
    (
        "bytes above ASCII in a value",
        "GET / HTTP/1.1\r\nHOSTX-Other: \u{e9}\r\n\r\n",
        Forward(&["x-other: \u{e9}"], &[]),
    ),
    // 9110 7.6.1: hop-by-hop
    (
        "a nominated field",
        "GET / HTTP/1.1\r\nHOSTConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n",
        Forward(&["x-end: 2"], &["x-hop"]),
    ),
    (
        "fields of the connection",
        "GET / HTTP/1.1\r\nHOSTKeep-Alive: 1\r\nProxy-Connection: close\r\nTE: trailers\r\nUpgrade: other\r\nTrailer: X\r\n\r\n",
        Forward(&[], &["keep-alive:", "proxy-connection", "upgrade:", "te: "]),
    ),
    (
        "an upgrade to HTTP/2",
        "GET / HTTP/1.1\r\nHOSTConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        Forward(&[], &["upgrade:", "http2-settings"]),
    ),
    ("Host nominated", "GET / HTTP/1.1\r\nHOSTConnection: Host\r\n\r\n", Refuse(&[400])),
    (
        "who asks, nominated",
        "GET / HTTP/1.1\r\nHOSTConnection: X-Forwarded-For\r\n\r\n",
        Refuse(&[400]),
    ),
    // 9112 3.2: Host
    ("no host", "GET / HTTP/1.1\r\n\r\n", Refuse(&[400])),
    ("a host that is none", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refuse(&[400])),
    (
        "a URL of another host",
        "GET https://other.apps.test/ HTTP/1.1\r\nHOST\r\n",
        Refuse(&[400, 404, 421]),
    ),
    ("a version to come", "GET / HTTP/9.9\r\nHOST\r\n", Refuse(&[400, 505])),
    ("a tunnel", "CONNECT blog.apps.test:443 HTTP/1.1\r\nHOST\r\n", Refuse(&[400, 405, 501])),
    // 9112 6: framing
    (
        "a body of known length",
        "POST / HTTP/1.1\r\nHOSTContent-Length: 4\r\n\r\nbody",
        Forward(&["content-length: 4\r\n", "\r\n\r\nbody"], &["chunked"]),
    ),
    (
        "a chunked body",
        "POST / HTTP/1.1\r\nHOSTTransfer-Encoding: chunked\r\n\r\n4;ext=1\r\nbody\r\n0\r\n\r\n",
        Forward(&["body"], &["content-length", "ext=1"]),
    ),
    (
        "trailers",
        "POST / HTTP/1.1\r\nHOSTTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Trailer: 1\r\n\r\n",
        Forward(&["body"], &["x-trailer"]),
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nHOSTTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        Forward(&["transfer-encoding: chunked\r\n"], &["chunked, chunked"]),
    ),
    (
        "a chunk of no size",
        "POST / HTTP/1.1\r\nHOSTTransfer-Encoding: chunked\r\n\r\nx\r\nbody\r\n0\r\n\r\n",
        Refuse(&[400]),
    ),
];

async fn fault(world: &World, request: &str, must: &Must) -> Option<String> {
    let mut raw = world.raw("blog.apps.test").await;
    let request = request.replace("HOST", HOST);
    // One byte for each character, so that a case can have any byte.
    let bytes: Vec<u8> = request.chars().map(|c| c as u8).collect();
    raw.send(&bytes).await;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match timeout(DEADLINE, raw.0.read_u8()).await {
            Ok(Ok(byte)) => head.push(char::from(byte)),
            Ok(Err(_)) => return Some(format!("the connection ended after {head:?}")),
            Err(_) => return Some(format!("nothing came after {head:?}")),
        }
    }
    let Some(Ok(status)) = head.split(' ').nth(1).map(str::parse) else { return Some(head) };
    match must {
        Refuse(statuses) => (!statuses.contains(&status)).then_some(head),
        Forward(..) if status != 200 => Some(head),
        Forward(seen, gone) => {
            let length = head.to_lowercase();
            let length =
                length.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            raw.0.read_exact(&mut body).await.unwrap();
            let body = String::from_utf8(body).unwrap();
            let missing = seen.iter().find(|text| !body.contains(**text));
            let extra = gone.iter().find(|text| body.contains(**text));
            (missing.is_some() || extra.is_some())
                .then(|| format!("missing {missing:?}, too much {extra:?} in {body}"))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_taken_and_forwarded_as_the_standard_says() {
    let mut world = World::start();
    world.serve("blog", world.serving("blog", mirror().await));
    let mut faults = Vec::new();
    for (name, request, must) in CASES {
        if let Some(fault) = fault(&world, request, must).await {
            faults.push(format!("{name}: {fault}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Answers each request with these bytes.
async fn answering(bytes: &'static str) -> std::net::SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(bytes.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_through_as_the_standard_says() {
    let mut world = World::start();
    for (name, method, answer, status, body) in [
        ("a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", 200, "body"),
        ("until the end", "GET", "HTTP/1.1 200 OK\r\n\r\nbody", 200, "body"),
        ("HEAD with a length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", 200, ""),
        ("204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "304 with a length",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
            304,
            "",
        ),
        (
            "103 and then",
            "GET",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
            200,
            "body",
        ),
        ("a status of its own", "GET", "HTTP/1.1 299 Own\r\nContent-Length: 0\r\n\r\n", 299, ""),
        ("HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\n\r\nbody", 200, "body"),
        (
            "two lengths",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody!",
            502,
            "did not answer properly",
        ),
        ("no HTTP", "GET", "SSH-2.0-OpenSSH_9.2\r\n\r\n", 502, "did not answer properly"),
        (
            "a broken header",
            "GET",
            "HTTP/1.1 200 OK\r\nX Other: 1\r\n\r\n",
            502,
            "did not answer properly",
        ),
    ] {
        let address = answering(answer).await;
        world.serve("blog", world.serving("blog", address));
        for client in [world.h1(), world.h2()] {
            let request = client.request(method.parse().unwrap(), world.url("blog", "/"));
            let response = request.send().await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{name}");
            for hop in ["keep-alive", "proxy-connection"] {
                assert!(!response.headers().contains_key(hop), "{name}: {hop}");
            }
            let text = response.text().await.unwrap();
            assert!(text.contains(body) && (status == 502 || text == body), "{name}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_is_told_to_go_on_by_the_app() {
    let mut world = World::start();
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
        assert!(head.contains("expect: 100-continue"), "{head}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        read_until(&mut stream, "body").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere").await.unwrap();
    });
    world.serve("blog", world.serving("blog", address));
    let mut raw = world.raw("blog.apps.test").await;
    raw.send(&format!(
        "POST / HTTP/1.1\r\n{HOST}Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    ))
    .await;
    assert!(raw.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 100 Continue"));
    raw.send("body").await;
    let answer = raw.read_until("there").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}
