//! RFC 9113 (HTTP/2) and RFC 7541 (HPACK): what a server must make of frames, most of all of wrong
//! ones. The cases are those that the `h2spec` suite is known for; `floods` has what is allowed and too
//! much.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PADDED, PING,
        PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame,
    },
    harness::World,
    upstreams::Echo,
};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// What must come of it.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// The request on stream 1 is answered.
    Answer,
    /// The connection goes on: a later ping is answered.
    GoOn,
    /// Stream 1 ends with this error, or the whole connection does, which section 5.4.2 allows.
    EndStream(u32),
    /// The connection ends, and says this if it says something; or `PROTOCOL_ERROR`, which the
    /// library below says where the standard has a finer word.
    EndConnection(u32),
}
use Must::{Answer, EndConnection, EndStream, GoOn};

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "blog.apps.test")];

fn get() -> Vec<u8> {
    headers(END_HEADERS | END_STREAM, 1, &GET)
}

/// A request whose body is to come.
fn post() -> Vec<u8> {
    headers(END_HEADERS, 1, &with(":method", "POST", &[]))
}

fn headers(flags: u8, stream: u32, list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &fields(list))
}

/// The request with one pseudo-header changed, and with more fields.
fn with<'a>(name: &str, value: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut list: Vec<_> =
        GET.iter().map(|(n, v)| (*n, if *n == name { value } else { v })).collect();
    list.extend_from_slice(more);
    list
}

fn without(name: &str) -> Vec<u8> {
    let list: Vec<_> = GET.into_iter().filter(|(n, _)| *n != name).collect();
    headers(END_HEADERS | END_STREAM, 1, &list)
}

fn request(list: &[(&str, &str)]) -> Vec<u8> {
    headers(END_HEADERS | END_STREAM, 1, list)
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn cases() -> Vec<(&'static str, Vec<u8>, Must)> {
    let all = |parts: &[Vec<u8>]| parts.concat();
    let more = |name: &'static str, value: &'static str| request(&with("", "", &[(name, value)]));
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    vec![
        ("a request", get(), Answer),
        (
            "a padded request",
            {
                let mut payload = vec![4];
                payload.extend(fields(&GET));
                payload.extend([0; 4]);
                frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &payload)
            },
            Answer,
        ),
        (
            "a header block in two frames",
            {
                let (one, two) = (fields(&GET[..2]), fields(&GET[2..]));
                all(&[
                    frame(HEADERS, END_STREAM, 1, &one),
                    frame(CONTINUATION, END_HEADERS, 1, &two),
                ])
            },
            Answer,
        ),
        (
            "a body in two frames",
            all(&[post(), frame(DATA, 0, 1, b"a"), frame(DATA, END_STREAM, 1, b"b")]),
            Answer,
        ),
        (
            "trailers",
            all(&[post(), headers(END_HEADERS | END_STREAM, 1, &[("x-sum", "1")])]),
            Answer,
        ),
        ("te: trailers", more("te", "trailers"), Answer),
        // 4.1, 4.2, 4.3
        ("a frame of unknown type", frame(0x16, 0, 0, b"whatever"), GoOn),
        ("undefined flags", frame(PING, 0xfe, 0, &[0; 8]), GoOn),
        (
            "a data frame that is too large",
            all(&[post(), frame(DATA, 0, 1, &[0; 16_385])]),
            EndConnection(FRAME_SIZE_ERROR),
        ),
        (
            "a header frame that is too large",
            frame(HEADERS, END_HEADERS, 1, &[0; 16_385]),
            EndConnection(FRAME_SIZE_ERROR),
        ),
        (
            "a header block that cannot be decoded",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 16]),
            EndConnection(COMPRESSION_ERROR),
        ),
        (
            "an index that means nothing",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xc5]),
            EndConnection(COMPRESSION_ERROR),
        ),
        (
            "a header table that is too large",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x3f, 0xff, 0xff, 0xff, 0x07]),
            EndConnection(COMPRESSION_ERROR),
        ),
        // 5.1
        ("data on an idle stream", frame(DATA, END_STREAM, 1, b"x"), EndConnection(PROTOCOL_ERROR)),
        (
            "a reset of an idle stream",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            EndConnection(PROTOCOL_ERROR),
        ),
        ("a window for an idle stream", window(1, 100), EndConnection(PROTOCOL_ERROR)),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &fields(&GET)),
            EndConnection(PROTOCOL_ERROR),
        ),
        (
            "data after the end",
            all(&[get(), frame(DATA, END_STREAM, 1, b"x")]),
            EndStream(STREAM_CLOSED),
        ),
        ("headers after the end", all(&[get(), get()]), EndStream(STREAM_CLOSED)),
        // 5.1.1
        (
            "a stream of even number",
            headers(END_HEADERS | END_STREAM, 2, &GET),
            EndConnection(PROTOCOL_ERROR),
        ),
        (
            "a number that goes down",
            all(&[
                headers(END_HEADERS | END_STREAM, 5, &GET),
                headers(END_HEADERS | END_STREAM, 3, &GET),
            ]),
            EndConnection(PROTOCOL_ERROR),
        ),
        // 6.1 to 6.4
        ("data on stream 0", frame(DATA, 0, 0, b"x"), EndConnection(PROTOCOL_ERROR)),
        (
            "more padding than data",
            all(&[post(), frame(DATA, PADDED | END_STREAM, 1, &[9, 0])]),
            EndConnection(PROTOCOL_ERROR),
        ),
        ("headers on stream 0", headers(END_HEADERS, 0, &GET), EndConnection(PROTOCOL_ERROR)),
        (
            "a frame within a header block",
            all(&[frame(HEADERS, END_STREAM, 1, &fields(&GET)), frame(PRIORITY, 0, 1, &[0; 5])]),
            EndConnection(PROTOCOL_ERROR),
        ),
        (
            "headers of another stream within a header block",
            all(&[frame(HEADERS, END_STREAM, 1, &fields(&GET)), headers(END_HEADERS, 3, &GET)]),
            EndConnection(PROTOCOL_ERROR),
        ),
        ("a priority on stream 0", frame(PRIORITY, 0, 0, &[0; 5]), EndConnection(PROTOCOL_ERROR)),
        ("a reset of stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), EndConnection(PROTOCOL_ERROR)),
        (
            "a reset of the wrong length",
            all(&[post(), frame(RST_STREAM, 0, 1, &[0; 3])]),
            EndConnection(FRAME_SIZE_ERROR),
        ),
        // 6.5
        (
            "an acknowledgement with settings",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            EndConnection(FRAME_SIZE_ERROR),
        ),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[]), EndConnection(PROTOCOL_ERROR)),
        (
            "settings of the wrong length",
            frame(SETTINGS, 0, 0, &[0; 5]),
            EndConnection(FRAME_SIZE_ERROR),
        ),
        ("an unknown setting", setting(0xff, 1), GoOn),
        ("push neither on nor off", setting(2, 2), EndConnection(PROTOCOL_ERROR)),
        ("too large an initial window", setting(4, 1 << 31), EndConnection(FLOW_CONTROL_ERROR)),
        ("too small a frame size", setting(5, 16_383), EndConnection(PROTOCOL_ERROR)),
        ("too large a frame size", setting(5, 1 << 24), EndConnection(PROTOCOL_ERROR)),
        // 6.6 to 6.10
        (
            "a promise of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            EndConnection(PROTOCOL_ERROR),
        ),
        ("an unasked pong", frame(PING, ACK, 0, b"unasked!"), GoOn),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8]), EndConnection(PROTOCOL_ERROR)),
        ("a ping of the wrong length", frame(PING, 0, 0, &[0; 6]), EndConnection(FRAME_SIZE_ERROR)),
        ("a goodbye on a stream", frame(GOAWAY, 0, 1, &[0; 8]), EndConnection(PROTOCOL_ERROR)),
        ("a window of nothing", window(0, 0), EndConnection(PROTOCOL_ERROR)),
        ("a stream's window of nothing", all(&[post(), window(1, 0)]), EndStream(PROTOCOL_ERROR)),
        (
            "a window of the wrong length",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
            EndConnection(FRAME_SIZE_ERROR),
        ),
        (
            "a window that overflows",
            all(&[window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)]),
            EndConnection(FLOW_CONTROL_ERROR),
        ),
        (
            "a stream's window that overflows",
            all(&[post(), window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)]),
            EndStream(FLOW_CONTROL_ERROR),
        ),
        (
            "a continuation of another stream",
            all(&[
                frame(HEADERS, END_STREAM, 1, &fields(&GET)),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ]),
            EndConnection(PROTOCOL_ERROR),
        ),
        (
            "a continuation after the end",
            all(&[get(), frame(CONTINUATION, END_HEADERS, 1, &[])]),
            EndConnection(PROTOCOL_ERROR),
        ),
        // 8.1 to 8.3
        (
            "trailers that do not end the stream",
            all(&[post(), headers(END_HEADERS, 1, &[("x-sum", "1")])]),
            EndStream(PROTOCOL_ERROR),
        ),
        (
            // Malformed by 8.1, but the library drops it, and trailers of requests end here anyway.
            "a pseudo-header in trailers",
            all(&[post(), headers(END_HEADERS | END_STREAM, 1, &[(":method", "GET")])]),
            Answer,
        ),
        (
            "a length that is not the body's",
            all(&[
                headers(END_HEADERS, 1, &with(":method", "POST", &[("content-length", "1")])),
                frame(DATA, END_STREAM, 1, b"two"),
            ]),
            EndStream(PROTOCOL_ERROR),
        ),
        ("a name in capitals", more("X-Other", "1"), EndStream(PROTOCOL_ERROR)),
        ("a connection header", more("connection", "close"), EndStream(PROTOCOL_ERROR)),
        ("transfer-encoding", more("transfer-encoding", "chunked"), EndStream(PROTOCOL_ERROR)),
        ("te that is not trailers", more("te", "gzip"), EndStream(PROTOCOL_ERROR)),
        (
            "a line break in a value",
            more("x-other", "a\r\nx-smuggled: 1"),
            EndStream(PROTOCOL_ERROR),
        ),
        ("an unknown pseudo-header", more(":other", "1"), EndStream(PROTOCOL_ERROR)),
        ("a pseudo-header of answers", more(":status", "200"), EndStream(PROTOCOL_ERROR)),
        (
            "a pseudo-header after others",
            request(&[&[("x-other", "1")][..], &GET].concat()),
            EndStream(PROTOCOL_ERROR),
        ),
        ("a pseudo-header twice", more(":path", "/"), EndStream(PROTOCOL_ERROR)),
        ("no method", without(":method"), EndStream(PROTOCOL_ERROR)),
        ("no scheme", without(":scheme"), EndStream(PROTOCOL_ERROR)),
        ("no path", without(":path"), EndStream(PROTOCOL_ERROR)),
        ("an empty path", request(&with(":path", "", &[])), EndStream(PROTOCOL_ERROR)),
    ]
}

/// What came of it, in words, if it is not what must.
async fn fault(frames: &mut Frames, bytes: &[u8], must: Must) -> Option<String> {
    frames.send(PREFACE).await;
    frames.send(&frame(SETTINGS, 0, 0, &[])).await;
    frames.send(bytes).await;
    if matches!(must, GoOn | Answer) {
        frames.send(&frame(PING, 0, 0, b"are you?")).await;
    }
    let mut answered = false;
    loop {
        let Ok(next) = timeout(Duration::from_secs(5), frames.next()).await else {
            return Some("nothing".to_owned());
        };
        let Some(next) = next else {
            // Ending the connection without a word is allowed (5.4.1).
            let may_end = matches!(must, EndStream(_) | EndConnection(_));
            return (!may_end).then(|| "the connection ended".to_owned());
        };
        match (next.kind, must) {
            (GOAWAY, EndStream(code) | EndConnection(code)) => {
                let said = next.error_code();
                return (said != code && said != PROTOCOL_ERROR).then(|| format!("GOAWAY {said}"));
            }
            (GOAWAY, _) => return Some(format!("GOAWAY {}", next.error_code())),
            (RST_STREAM, EndStream(code)) if next.stream == 1 => {
                let said = next.error_code();
                return (said != code).then(|| format!("RST_STREAM {said}"));
            }
            (RST_STREAM, Answer) => return Some(format!("RST_STREAM {}", next.error_code())),
            (HEADERS, Answer) => {
                // `:status: 200` is number 8 of the static table.
                return (next.payload[0] != 0x88).then(|| format!("answered {:?}", next.payload));
            }
            (HEADERS, _) if next.payload[0] == 0x88 => answered = true,
            (PING, GoOn) if next.payload == b"are you?" => return None,
            // The answer came before the error could be seen: nothing else will come.
            (DATA, EndStream(STREAM_CLOSED)) if answered && next.flags & END_STREAM != 0 => {
                return None;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_taken_as_the_standard_says() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    world.serve("blog", world.serving("blog", echo.address));
    let mut faults = Vec::new();
    for (name, bytes, must) in cases() {
        let mut frames = world.frames().await;
        if let Some(fault) = fault(&mut frames, &bytes, must).await {
            faults.push(format!("{name}: must {must:?}, but: {fault}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preface_that_is_none_ends_the_connection() {
    let world = World::start();
    let mut frames = world.frames().await;
    frames.send(b"INVALID CONNECTION PREFACE\r\n\r\n").await;
    while frames.next().await.is_some() {}
}
