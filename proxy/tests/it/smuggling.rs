//! Requests that two parsers could read as two different things: each is refused, or reaches the
//! instance as one request that can be read in one way only.

use std::sync::Arc;

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader},
    time::timeout,
};
use weir_config::PlainHttp;

use crate::{
    clients::Raw,
    harness::{DEADLINE, World, eventually},
    recorder::Recorder,
};

const HOST: &str = "Host: blog.apps.test\r\n";

/// What becomes of a request.
enum Fate {
    /// 400, and the instance hears nothing.
    Refused,
    /// It reaches the instance with this body, and what follows it does not as part of it.
    Read(&'static str),
    /// Its header is good and its body is not: the instance hears no whole request, and the
    /// connection ends.
    Cut,
}
use Fate::{Cut, Read, Refused};

/// What is sent, and what becomes of it. `{H}` stands for the header `Host`.
const REQUESTS: &[(&str, Fate)] = &[
    // The controls: a body by length, and one in chunks.
    ("POST / HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\nhello", Read("hello")),
    (
        "POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Read("hello"),
    ),
    // Both: the chunks count, the length is not passed on, and the connection ends.
    (
        "POST / HTTP/1.1\r\n{H}Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n{H}\r\n",
        Read("hello"),
    ),
    (
        "POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\n{H}\r\n",
        Read(""),
    ),
    // Lengths that differ, and those that are no numbers.
    ("POST / HTTP/1.1\r\n{H}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", Refused),
    ("POST / HTTP/1.1\r\n{H}Content-Length: 5, 6\r\n\r\nhello!", Refused),
    ("POST / HTTP/1.1\r\n{H}Content-Length: +5\r\n\r\nhello", Refused),
    ("POST / HTTP/1.1\r\n{H}Content-Length: 0x5\r\n\r\nhello", Refused),
    ("POST / HTTP/1.1\r\n{H}Content-Length: -1\r\n\r\nhello", Refused),
    ("POST / HTTP/1.1\r\n{H}Content-Length: 5 5\r\n\r\nhello", Refused),
    ("POST / HTTP/1.1\r\n{H}Content-Length: \r\n\r\nhello", Refused),
    ("POST / HTTP/1.1\r\n{H}Content-Length: 99999999999999999999\r\n\r\nhello", Refused),
    // The same length twice is one length.
    ("POST / HTTP/1.1\r\n{H}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Read("hello")),
    ("POST / HTTP/1.1\r\n{H}Content-Length: 5, 5\r\n\r\nhello", Read("hello")),
    // Transfer codings that only look like the one there is.
    ("POST / HTTP/1.1\r\n{H}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", Refused),
    (
        "POST / HTTP/1.1\r\n{H}Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        Refused,
    ),
    (
        "POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("POST / HTTP/1.1\r\n{H}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\n{H}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Refused),
    ("POST / HTTP/1.0\r\n{H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    // Headers that are none to somebody.
    ("POST / HTTP/1.1\r\n{H}Content-Length : 5\r\n\r\nhello", Refused),
    ("POST / HTTP/1.1\r\n{H}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\n{H}X: a\r\n Content-Length: 5\r\n\r\nhello", Refused),
    ("POST / HTTP/1.1\r\n {H}\r\n", Refused),
    ("POST / HTTP/1.1\r\n{H}X: a\rContent-Length: 5\r\n\r\nhello", Refused),
    ("POST / HTTP/1.1\r\n{H}X: a\0b\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\n{H}: empty\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\n{H}no colon\r\n\r\n", Refused),
    // Chunks whose size or end is not clear.
    ("POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", Cut),
    ("POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n", Cut),
    ("POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", Cut),
    (
        "POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        Cut,
    ),
    (
        "POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n5;a=b;c\r\nhello\r\n0\r\n\r\n",
        Read("hello"),
    ),
    // Whom it is for.
    ("GET / HTTP/1.1\r\n{H}Host: other.apps.test\r\n\r\n", Refused),
    ("GET / HTTP/1.1\r\n{H}{H}\r\n", Refused),
    ("GET http://other.apps.test/ HTTP/1.1\r\n{H}\r\n", Refused),
    ("GET http://blog.apps.test@other.apps.test/ HTTP/1.1\r\n{H}\r\n", Refused),
    ("GET http://blog.apps.test/ HTTP/1.1\r\n{H}\r\n", Read("")),
    // A version that is none.
    ("GET / HTTP/1.2\r\n{H}\r\n", Refused),
    ("GET / HTTP/2.0\r\n{H}\r\n", Refused),
    ("GET /\r\n\r\n", Refused),
];

/// The first line of the answer; empty if the connection is closed without one.
async fn answer(mut raw: Raw<impl AsyncRead + AsyncWrite + Unpin>, request: &str) -> String {
    raw.send(request).await;
    let mut line = String::new();
    let mut reader = BufReader::new(raw.0);
    let _ = timeout(DEADLINE, reader.read_line(&mut line)).await.expect("no answer");
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_refused_or_reaches_the_instance_as_one() {
    let mut world = World::start();
    let recorder = Recorder::start().await;
    let mut route = world.route("blog", world.serving("blog", recorder.address));
    Arc::make_mut(&mut route.policy).plain_http = PlainHttp::Serve;
    world.control.publish(|snapshot| snapshot.insert(route));
    let app = world.app("blog");
    let mut failures = Vec::new();
    for (request, fate) in REQUESTS {
        let request = request.replace("{H}", HOST);
        for secure in [false, true] {
            let answer = if secure {
                answer(world.raw("blog.apps.test").await, &request).await
            } else {
                answer(world.plain().await, &request).await
            };
            eventually("the request is over", || app.in_flight() == 0).await;
            let heard = recorder.take();
            let is_right = match fate {
                Refused => {
                    answer.starts_with("HTTP/1.1 400 ")
                        && heard.iter().all(|one| one.body.is_none())
                }
                Cut => {
                    (answer.is_empty() || answer.starts_with("HTTP/1.1 400 "))
                        && heard.iter().all(|one| one.body.is_none())
                }
                Read(body) => {
                    answer.starts_with("HTTP/1.1 200 ")
                        && matches!(&heard[..], [one] if one.body.as_deref() == Some(*body) && one.framings <= 1)
                }
            };
            if !is_right {
                let request = request.escape_debug();
                failures.push(format!(
                    "{request}\n  was answered {answer:?}; the instance heard {heard:?}"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
