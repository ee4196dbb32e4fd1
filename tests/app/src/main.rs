//! The web app that the whole-program tests run in containers: a small HTTP/1.1 server that is
//! slow, streams, crashes or fails its health check when asked to.
//!
//! | path | answer |
//! |---|---|
//! | `/` | one line with `NAME`, `VERSION` and the container's host name |
//! | `/echo` | the request as it arrived, and the length of its body |
//! | `/slow?ms=N` | after N milliseconds |
//! | `/stream?n=N&ms=M` | N chunks, M milliseconds apart |
//! | `/ws` | a WebSocket that sends back every message |
//! | `/healthz` | 200, or 503 while unhealthy |
//! | `/toggle-health` | changes what `/healthz` answers |
//! | `/fail-all` | every later answer, but that of `/healthz`, is a 500 |
//! | `/crash?code=N` | none: the process exits with code N |
//! | `/stdout?text=T` | T is printed on standard output |
//! | `/stdout?env=NAME` | as is the variable NAME |
//! | `/fetch?url=U` | what `GET U` (plain HTTP) is answered, head and body |
//! | `/N` | N, a number |
//!
//! Environment: `PORT` (8080), `NAME`, `VERSION`, `FAIL_HEALTH=1` (unhealthy from the start),
//! `FAIL_ALL=1` (as after `/fail-all`), `EXIT_AT_ONCE=N` (says so and exits with code N),
//! `START_DELAY_MS=N` (listens only then), `WARM_UP_MS=N` (until then it is unhealthy, and answers
//! `/` by 418), `ANSWER_MS=N` (`/N` takes so long), `LEDGER=ADDRESS:PORT` (is told the number of each
//! request for `/N` and each message of a WebSocket before it is answered), `IGNORE_TERM=1`
//! (SIGTERM does nothing).

mod http;
mod ledger;
mod websocket;

use std::{
    env, fs,
    io::{self, BufReader, Write},
    net::{TcpListener, TcpStream},
    process,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use http::{Request, Response};
use signal_hook::{consts::SIGTERM, iterator::Signals};

static HEALTHY: AtomicBool = AtomicBool::new(true);
static FAILS: AtomicBool = AtomicBool::new(false);
/// When it has warmed up.
static WARM_AT: LazyLock<Instant> = LazyLock::new(|| Instant::now() + span("WARM_UP_MS"));
/// How long a numbered request takes.
static ANSWER: LazyLock<Duration> = LazyLock::new(|| span("ANSWER_MS"));

fn main() -> io::Result<()> {
    if let Some(code) = number("EXIT_AT_ONCE") {
        eprintln!("boom: cannot start version {}", version());
        exit(code as i32);
    }
    if !flag("IGNORE_TERM") {
        end_on_sigterm()?;
    }
    FAILS.store(flag("FAIL_ALL"), Ordering::Relaxed);
    HEALTHY.store(!flag("FAIL_HEALTH"), Ordering::Relaxed);
    ledger::open()?;
    thread::sleep(span("START_DELAY_MS"));
    LazyLock::force(&WARM_AT);

    let port = number("PORT").unwrap_or(8080) as u16;
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("listening on {port}");
    for stream in listener.incoming() {
        let stream = stream?;
        // A client that goes away or talks nonsense ends its connection, nothing else.
        thread::spawn(move || serve(&stream));
    }
    Ok(())
}

/// As a container's first process it would not end by default: the kernel does not deliver there
/// what nobody handles.
fn end_on_sigterm() -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM])?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            println!("ending: SIGTERM");
            exit(0);
        }
    });
    Ok(())
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        if request.header("expect").is_some() {
            (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if request.path == "/ws" {
            return websocket::serve(&request, &mut reader, stream);
        }
        let body_len = request.skip_body(&mut reader)?;
        let keeps_alive = request.keeps_alive();
        match request.path.as_str() {
            "/stream" => stream_chunks(&request, stream)?,
            path if path.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                ledger::note(&path[1..])?;
                thread::sleep(*ANSWER);
                Response::ok(path[1..].to_owned()).write(&request, stream)?;
            }
            _ => respond(&request, body_len).write(&request, stream)?,
        }
        if !keeps_alive {
            break;
        }
    }
    Ok(())
}

fn respond(request: &Request, body_len: u64) -> Response {
    let fails = FAILS.load(Ordering::Relaxed);
    match request.path.as_str() {
        path if fails && path != "/healthz" => {
            Response { status: "500 Internal Server Error", body: "as asked\n".to_owned() }
        }
        "/fail-all" => {
            FAILS.store(true, Ordering::Relaxed);
            Response::ok("every answer fails from now on\n".to_owned())
        }
        "/" if !is_warm() => {
            Response { status: "418 I'm a teapot", body: "asked before it was ready\n".to_owned() }
        }
        "/" => Response::ok(greeting()),
        "/echo" => Response::ok(format!("{request}\nbody: {body_len} bytes\n")),
        "/slow" => {
            let ms = request.query_number("ms").unwrap_or(0);
            thread::sleep(Duration::from_millis(ms));
            Response::ok(format!("answered after {ms} ms\n"))
        }
        "/healthz" => health(HEALTHY.load(Ordering::Relaxed) && is_warm()),
        "/toggle-health" => {
            let was_healthy = HEALTHY.fetch_xor(true, Ordering::Relaxed);
            Response::ok(format!("healthy: {}\n", !was_healthy))
        }
        "/crash" => {
            let code = request.query_number("code").unwrap_or(1);
            eprintln!("crash: asked to exit with code {code}");
            exit(code as i32);
        }
        "/stdout" => {
            let variable = request.query("env").and_then(|name| env::var(name).ok());
            println!("{}", variable.or_else(|| request.query("text")).unwrap_or_default());
            Response::ok("printed\n".to_owned())
        }
        "/fetch" => fetch(&request.query("url").unwrap_or_default()),
        path => Response { status: "404 Not Found", body: format!("no such path: {path}\n") },
    }
}

/// Asks another app.
fn fetch(url: &str) -> Response {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap_or((url, ""));
    let asked = || {
        let mut stream = TcpStream::connect((host, 80))?;
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        io::read_to_string(stream)
    };
    match asked() {
        Ok(answer) => Response::ok(answer),
        Err(error) => Response { status: "502 Bad Gateway", body: format!("{host}: {error}\n") },
    }
}

fn greeting() -> String {
    let name = env::var("NAME").unwrap_or_else(|_| "weir-test-app".to_owned());
    let host = fs::read_to_string("/etc/hostname").unwrap_or_default();
    format!("hello from {name}, version {}, on {}\n", version(), host.trim())
}

fn version() -> String {
    env::var("VERSION").unwrap_or_else(|_| "1".to_owned())
}

fn health(is_healthy: bool) -> Response {
    match is_healthy {
        true => Response::ok("healthy\n".to_owned()),
        false => Response { status: "503 Service Unavailable", body: "unhealthy\n".to_owned() },
    }
}

/// The first chunk comes at once, each later one `ms` after the one before.
fn stream_chunks(request: &Request, mut stream: &TcpStream) -> io::Result<()> {
    let count = request.query_number("n").unwrap_or(3);
    let pause = Duration::from_millis(request.query_number("ms").unwrap_or(0));
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for i in 0..count {
        if i > 0 {
            thread::sleep(pause);
        }
        let text = format!("chunk {i}\n");
        stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())?;
    }
    stream.write_all(b"0\r\n\r\n")
}

fn flag(name: &str) -> bool {
    env::var(name).is_ok_and(|value| value == "1")
}

fn is_warm() -> bool {
    Instant::now() >= *WARM_AT
}

fn span(name: &str) -> Duration {
    Duration::from_millis(number(name).unwrap_or(0))
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[expect(clippy::exit, reason = "exit codes are what the tests look at")]
fn exit(code: i32) -> ! {
    process::exit(code)
}
