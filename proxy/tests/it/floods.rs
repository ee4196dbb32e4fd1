//! Clients of HTTP/2 that mean harm, frame by frame.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use weir_config::PlainHttp;

use crate::{
    clients::Raw,
    harness::{DEADLINE, World, eventually},
    upstreams::Echo,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:method GET`, `:scheme http` and `:path /` of the static table, and `:authority`.
const GET: &[u8] = b"\x82\x86\x84\x01\x0eblog.apps.test";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

struct H2(TcpStream);

impl H2 {
    async fn begin(world: &World) -> Self {
        let Raw(mut stream) = world.plain().await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self(stream)
    }

    /// Sends the same again and again, up to `times`, until the proxy has had enough. Returns how
    /// often it was sent and the error of the GOAWAY, if one came.
    async fn flood(self, times: u32, mut nth: impl FnMut(u32) -> Vec<u8>) -> (u32, Option<u32>) {
        let (mut reading, mut writing) = self.0.into_split();
        let told = tokio::spawn(async move {
            let mut error = None;
            let mut head = [0; 9];
            while reading.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                if reading.read_exact(&mut payload).await.is_err() {
                    break;
                }
                if head[3] == GOAWAY {
                    error = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
            }
            error
        });
        let mut sent = 0;
        while sent < times && writing.write_all(&nth(sent)).await.is_ok() && !told.is_finished() {
            sent += 1;
        }
        drop(writing);
        (sent, timeout(DEADLINE, told).await.expect("never closed").unwrap())
    }
}

async fn served(world: &mut World) -> Echo {
    let echo = Echo::start("blog").await;
    let mut route = world.route("blog", world.serving("blog", echo.address));
    Arc::make_mut(&mut route.policy).plain_http = PlainHttp::Serve;
    world.control.publish(|snapshot| snapshot.insert(route));
    echo
}

const ENHANCE_YOUR_CALM: u32 = 11;

/// After an attack, everybody else is served and nothing of it is left.
async fn check_unharmed(world: &World) {
    let app = world.app("blog");
    let url = world.url("blog", "/");
    assert_eq!(world.h2().get(url).send().await.unwrap().status(), 200);
    eventually("nothing is in flight", || app.in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frames_are_right() {
    let mut world = World::start();
    let echo = served(&mut world).await;
    let Raw(stream) = world.plain().await;
    drop(stream);
    let mut h2 = H2::begin(&world).await;
    h2.0.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, GET)).await.unwrap();
    eventually("it is answered", || world.app("blog").statuses()[1] == 1).await;
    assert_eq!(echo.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection() {
    const TIMES: u32 = 20_000;
    let mut world = World::start();
    let echo = served(&mut world).await;
    let (sent, error) = H2::begin(&world)
        .await
        .flood(TIMES, |nth| {
            let stream = 2 * nth + 1;
            let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
            [request, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
        })
        .await;
    assert!(sent < TIMES, "all were taken; the app had {}", echo.hits());
    assert!(matches!(error, None | Some(ENHANCE_YOUR_CALM)), "{error:?}");
    assert!(echo.hits() < 1000, "{} requests reached the app", echo.hits());
    check_unharmed(&world).await;
}

/// The library counts only what is reset before it is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn patient_resets_end_the_connection_too() {
    let mut world = World::start();
    let echo = Echo::start_closed("blog").await;
    let mut route = world.route("blog", world.serving("blog", echo.address));
    Arc::make_mut(&mut route.policy).plain_http = PlainHttp::Serve;
    world.control.publish(|snapshot| snapshot.insert(route));
    let app = world.app("blog");
    let mut h2 = H2::begin(&world).await;
    for stream in (1..2000).step_by(2) {
        let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
        if h2.0.write_all(&request).await.is_err() {
            break;
        }
        eventually("it is there, or all is over", || app.in_flight() == 1 || is_closed(&h2.0))
            .await;
        let _ = h2.0.write_all(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).await;
        eventually("it is over", || app.in_flight() == 0).await;
    }
    let requests: u64 = app.statuses().iter().sum();
    assert!((500..600).contains(&requests), "{requests} were taken");
    echo.open();
    check_unharmed(&world).await;
}

fn is_closed(stream: &TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.try_read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_without_end_ends_the_connection() {
    const TIMES: u32 = 10_000;
    let mut world = World::start();
    let echo = served(&mut world).await;
    // Some that are too large, and some that are empty.
    for payload in [vec![0x20; 16 << 10], Vec::new()] {
        let (sent, error) = H2::begin(&world)
            .await
            .flood(TIMES, |nth| match nth {
                0 => frame(HEADERS, END_STREAM, 1, GET),
                _ => frame(CONTINUATION, 0, 1, &payload),
            })
            .await;
        assert!(sent < TIMES, "all were taken");
        assert!(error.is_none_or(|error| error != 0), "{error:?}");
    }
    assert_eq!(echo.hits(), 0);
    check_unharmed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_too_large_reaches_nobody() {
    let mut world = World::start();
    let echo = served(&mut world).await;
    let mut h2 = H2::begin(&world).await;
    // A literal header with a value of 16,000 bytes, ten times: 160 kB.
    let large = [&b"\0\x01x\x7f\x81\x7c"[..], &[b'v'; 16_000]].concat();
    h2.0.write_all(&frame(HEADERS, END_STREAM, 1, GET)).await.unwrap();
    for nth in 1..=10 {
        let flags = if nth == 10 { END_HEADERS } else { 0 };
        let _ = h2.0.write_all(&frame(CONTINUATION, flags, 1, &large)).await;
    }
    check_unharmed(&world).await;
    assert_eq!(echo.hits(), 1, "only the other client's");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_end_the_connection() {
    let mut world = World::with(|settings| settings.write_timeout = Duration::from_millis(300));
    let _echo = served(&mut world).await;
    let ping = frame(PING, 0, 0, &[7; 8]);
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]);
    for (nth, question) in [ping, settings].into_iter().enumerate() {
        let mut h2 = H2::begin(&world).await;
        let questions = question.repeat(1000);
        // Each is answered, until our side of the wire is full of answers; then nothing more is
        // read, and so nothing piles up.
        while h2.0.write_all(&questions).await.is_ok() {}
        let given_up = world.metric("weir_connections_dropped_total{reason=\"write_timeout\"}");
        assert_eq!(given_up, nth as f64 + 1.0);
    }
    check_unharmed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_frames_of_data_end_the_connection() {
    const TIMES: u32 = 100_000;
    let mut world = World::start();
    let _echo = served(&mut world).await;
    let (sent, _) = H2::begin(&world)
        .await
        .flood(TIMES, |nth| match nth {
            0 => frame(HEADERS, END_HEADERS, 1, GET),
            _ => frame(DATA, 0, 1, &[]),
        })
        .await;
    assert!(sent < TIMES, "all were taken");
    check_unharmed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_that_does_not_begin_or_does_not_go_on_is_closed() {
    let short = Duration::from_millis(300);
    let world = World::with(|settings| {
        (settings.header_timeout, settings.idle_timeout) = (short, short);
    });
    // A preface without settings; a connection without a request; a header without an end.
    let whole = frame(HEADERS, END_STREAM, 1, GET);
    for (begun, more) in [(false, vec![]), (true, vec![]), (true, whole)] {
        let mut stream = if begun {
            H2::begin(&world).await.0
        } else {
            let mut raw = world.plain().await;
            raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            raw.0
        };
        stream.write_all(&more).await.unwrap();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await.expect("never closed");
    }
}
