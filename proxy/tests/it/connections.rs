//! How long a connection may wait, and how many there may be.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    clients::Raw,
    harness::{DEADLINE, World, eventually},
    upstreams::{Echo, endless, web_socket},
};

/// Long enough for whoever does what is expected, short enough to wait for.
const SHORT: Duration = Duration::from_millis(300);
const GET: &str = "GET / HTTP/1.1\r\nHost: blog.apps.test\r\n\r\n";

fn dropped(world: &World, reason: &str) -> f64 {
    world.metric(&format!("weir_connections_dropped_total{{reason=\"{reason}\"}}"))
}

/// Sends byte after byte, each well within any timeout that begins anew with one.
async fn trickle(raw: Raw<impl AsyncRead + AsyncWrite + Unpin>) -> (String, Duration) {
    let begun = Instant::now();
    let (mut reading, mut writing) = tokio::io::split(raw.0);
    let drip = async {
        let endless =
            b"GET / HTTP/1.1\r\nHost: blog.apps.test\r\nX: ".iter().chain([b'x'; 1].iter().cycle());
        for byte in endless {
            if writing.write_all(&[*byte]).await.is_err() || writing.flush().await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        read = reading.read_to_end(&mut answer) => drop(read),
        () = drip => {}
        () = sleep(DEADLINE) => panic!("never closed"),
    }
    (String::from_utf8(answer).unwrap(), begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_trickles_in_ends_at_the_deadline_and_hurts_nobody_else() {
    let world = World::with(|settings| settings.header_timeout = SHORT);
    let other = world.h1();
    assert_eq!(other.get(world.url("nobody", "/")).send().await.unwrap().status(), 404);
    let (plain, tls) = (world.plain().await, world.raw("blog.apps.test").await);
    let (plain, tls, served) =
        tokio::join!(trickle(plain), trickle(tls), other.get(world.url("nobody", "/")).send(),);
    assert_eq!(served.unwrap().status(), 404);
    for (answer, took) in [plain, tls] {
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert!(took >= SHORT / 2, "closed after {took:?}");
    }
    assert_eq!(dropped(&world, "header_timeout"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_more_than_64_kib_is_431_and_each_request_has_as_much() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let with = |bytes| GET.replace("Host", &format!("X-Large: {}\r\nHost", "x".repeat(bytes)));
    let mut raw = world.raw("blog.apps.test").await;
    for _ in 0..3 {
        raw.send(&with(40 << 10)).await;
        let head = raw.read_until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        raw.read_until("}").await;
    }
    // A body beside it does not count.
    let body = "x".repeat(100 << 10);
    let post =
        with(40 << 10).replace("GET", "POST").replace("Host", "Content-Length: 102400\r\nHost");
    raw.send(&(post + &body)).await;
    let head = raw.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut raw = world.raw("blog.apps.test").await;
    raw.send(&with(80 << 10)).await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(dropped(&world, "header_too_large"), 1.0);
    assert_eq!(echo.hits(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_header_has_the_same_time_from_its_first_byte() {
    let mut world = World::with(|settings| settings.header_timeout = SHORT);
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let mut raw = world.raw("blog.apps.test").await;
    raw.send(GET).await;
    raw.read_until("}").await;
    // An idle connection has the idle timeout, which is longer.
    sleep(SHORT * 2).await;
    raw.send(GET).await;
    raw.read_until("}").await;
    let (answer, _) = trickle(raw).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let world = World::with(|settings| settings.header_timeout = SHORT);
    assert_eq!(world.raw("blog.apps.test").await.read_to_end().await, "");
    assert_eq!(world.plain().await.read_to_end().await, "");
    assert_eq!(dropped(&world, "header_timeout"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_without_a_word() {
    let mut world = World::with(|settings| settings.idle_timeout = SHORT);
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let mut raw = world.raw("blog.apps.test").await;
    raw.send(GET).await;
    raw.read_until("}").await;
    assert_eq!(raw.read_to_end().await, "");
    assert_eq!(dropped(&world, "header_timeout"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_has_none_of_these_limits() {
    let mut world = World::with(|settings| {
        (settings.header_timeout, settings.idle_timeout) = (SHORT, SHORT);
    });
    let echo = Echo::start_closed("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    world.serve("chat", world.serving("chat", web_socket().await));
    let mut chat = world.raw("chat.apps.test").await;
    chat.send(
        "GET / HTTP/1.1\r\nHost: chat.apps.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    chat.read_until("hello\n").await;
    let (h1, h2) = (world.h1(), world.h2());
    let sent = [&h1, &h2].map(|client| tokio::spawn(client.get(world.url("blog", "/")).send()));
    eventually("both are there", || echo.hits() == 2).await;
    sleep(SHORT * 2).await;
    echo.open();
    for sent in sent {
        assert_eq!(sent.await.unwrap().unwrap().status(), 200);
    }
    chat.send("still\n").await;
    assert_eq!(chat.read_until("\n").await, ">still\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_end_is_cut() {
    let world = World::with(|settings| settings.handshake_timeout = SHORT);
    // What a ClientHello begins with: a record of 512 bytes.
    for begun in ["", "\x16\x03\x01\x02\0"] {
        let mut raw = Raw(TcpStream::connect(world.https).await.unwrap());
        raw.send(begun).await;
        assert_eq!(raw.read_to_end().await, "");
    }
    assert_eq!(dropped(&world, "handshake_timeout"), 2.0);
    // Garbage is not waited for.
    let mut raw = Raw(TcpStream::connect(world.https).await.unwrap());
    raw.send("GET / HTTP/1.1\r\n\r\n").await;
    timeout(DEADLINE, raw.0.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    assert_eq!(dropped(&world, "handshake"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_so_many_requests_and_no_more() {
    let mut world = World::with(|settings| settings.max_requests_per_connection = 3);
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let mut raw = world.raw("blog.apps.test").await;
    for nth in 1..=3 {
        raw.send(GET).await;
        let head = raw.read_until("\r\n\r\n").await.to_lowercase();
        assert_eq!(head.contains("connection: close"), nth == 3, "{nth}: {head}");
        raw.read_until("}").await;
    }
    assert_eq!(raw.read_to_end().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_the_limit_is_closed_at_once_and_the_others_live() {
    let world = World::with(|settings| settings.max_connections = 2);
    let mut first = world.raw("blog.apps.test").await;
    let second = world.plain().await;
    let open =
        |listener| world.metric(&format!("weir_connections_open{{listener=\"{listener}\"}}"));
    eventually("both are counted", || (open("http"), open("https")) == (1.0, 1.0)).await;
    for _ in 0..3 {
        assert_eq!(world.plain().await.read_to_end().await, "");
    }
    assert_eq!(dropped(&world, "over_limit"), 3.0);
    assert_eq!(world.metric("weir_connections_accepted_total{listener=\"http\"}"), 4.0);
    first.send("GET / HTTP/1.1\r\nHost: nobody.apps.test\r\n\r\n").await;
    assert!(first.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 404"));
    drop(second);
    eventually("it is counted no longer", || open("http") == 0.0).await;
    let mut third = world.plain().await;
    third.send(GET).await;
    assert!(third.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 308"));
}

pub(crate) async fn connect_from(address: [u8; 4], to: SocketAddr) -> Raw<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::from(address), 0).into()).unwrap();
    Raw(socket.connect(to).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_may_not_have_all_connections() {
    let world = World::with(|settings| settings.max_connections_per_client = 2);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut raw = connect_from([127, 0, 0, 1], world.http).await;
        raw.send(GET).await;
        assert!(raw.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 308"));
        kept.push(raw);
    }
    assert_eq!(connect_from([127, 0, 0, 1], world.http).await.read_to_end().await, "");
    assert_eq!(dropped(&world, "over_client_limit"), 1.0);
    let mut other = connect_from([127, 0, 0, 2], world.http).await;
    other.send(GET).await;
    assert!(other.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 308"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_given_up() {
    let mut world = World::with(|settings| settings.write_timeout = SHORT);
    world.serve("blog", world.serving("blog", endless().await));
    let app = world.app("blog");
    let mut idle = world.raw("blog.apps.test").await;
    idle.send(GET).await;
    eventually("it is under way", || app.in_flight() == 1).await;
    eventually("it is given up", || app.in_flight() == 0).await;
    assert_eq!(dropped(&world, "write_timeout"), 1.0);

    // One that is slow, but takes what it can, is not.
    let mut slow = world.raw("blog.apps.test").await;
    slow.send(GET).await;
    let begun = Instant::now();
    let mut bytes = vec![0; 64 << 10];
    while begun.elapsed() < SHORT * 4 {
        slow.0.read_exact(&mut bytes).await.unwrap();
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(app.in_flight(), 1);
    assert_eq!(dropped(&world, "write_timeout"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_2_that_keeps_its_window_shut_is_given_up() {
    let mut world = World::start();
    let mut route = world.route("blog", world.serving("blog", endless().await));
    Arc::make_mut(&mut route.policy).timeouts.write = SHORT;
    world.control.publish(|snapshot| snapshot.insert(route));
    let app = world.app("blog");
    // The head has come; of the body, as much as the window holds will.
    let client = world.h2();
    let response = client.get(world.url("blog", "/")).send().await.unwrap();
    assert_eq!(app.in_flight(), 1);
    eventually("it is given up", || app.in_flight() == 0).await;
    drop(response);
    // The connection is still good for others.
    assert_eq!(client.get(world.url("nobody", "/")).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_wants_is_not_reset_before_its_answer_is_read() {
    let world = World::start();
    for mut raw in [world.plain().await, world.plain().await] {
        let length = 4 << 20;
        raw.send(format!(
            "POST / HTTP/1.1\r\nHost: blog.apps.test\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
        eventually("it is answered", || raw.0.try_read(&mut []).is_ok()).await;
        // All of it can be sent: a reset would fail this, and take the answer with it where the
        // network is slow.
        raw.0.write_all(&vec![b'x'; length]).await.unwrap();
        let answer = raw.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_and_1_share_the_plain_port() {
    let world = World::start();
    let url = format!("http://blog.apps.test:{}/", world.http.port());
    let response = world.h2().get(&url).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (308, reqwest::Version::HTTP_2));
    // Shorter than the first bytes of HTTP/2, or beginning like them.
    for (request, status) in
        [("GET / HTTP/1.0\r\n\r\n", "400"), ("PRI / HTTP/1.1\r\nHost: a.apps.test\r\n\r\n", "308")]
    {
        let mut raw = world.plain().await;
        raw.send(request).await;
        let answer = raw.read_until("\r\n\r\n").await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{request}: {answer}");
    }
}
