//! A server that writes down every request that reaches it, and answers with its number.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

use super::book::{Book, Id};

pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    counts: Arc<Counts>,
    server: AbortHandle,
}

#[derive(Default)]
struct Counts {
    arrived: AtomicUsize,
    /// Requests under way, and WebSockets.
    in_flight: AtomicUsize,
}

impl Upstream {
    pub(super) async fn start(number: u16, book: Arc<Book>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let server =
            tokio::spawn(serve(listener, Recorder { number, book, counts: counts.clone() }));
        Ok(Self { address, counts, server: server.abort_handle() })
    }

    /// How many requests and messages have arrived.
    pub(super) fn arrived(&self) -> usize {
        self.counts.arrived.load(SeqCst)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.counts.in_flight.load(SeqCst) == 0
    }
}

impl Drop for Upstream {
    /// Ends it as a crash would: nobody is answered any more.
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, recorder: Recorder) {
    // They end with the server.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(recorder.clone().connection(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

#[derive(Clone)]
struct Recorder {
    number: u16,
    book: Arc<Book>,
    counts: Arc<Counts>,
}

/// Counts itself.
struct InFlight(Arc<Counts>);

impl InFlight {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.in_flight.fetch_add(1, SeqCst);
        Self(counts.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}

impl Recorder {
    /// Who goes away in the middle ends their connection, nothing else; probes do so always.
    async fn connection(self, stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        loop {
            ensure!(!stream.fill_buf().await?.is_empty(), "closed");
            let _in_flight = InFlight::new(&self.counts);
            let (path, body) = read(&mut stream).await?;
            if path == "/ws" {
                return self.echo(stream).await;
            }
            let id = path.trim_start_matches('/');
            let whole = body.is_empty() || body.starts_with(format!("{id} ").as_bytes());
            let status = if whole { "200 OK" } else { "400 Bad Request" };
            self.record(id)?;
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{id}", id.len());
            stream.write_all(answer.as_bytes()).await?;
        }
    }

    fn record(&self, id: &str) -> anyhow::Result<()> {
        let id: Id = id.parse().with_context(|| format!("{id} is no number"))?;
        self.counts.arrived.fetch_add(1, SeqCst);
        self.book.arrive(id, self.number);
        Ok(())
    }

    /// A WebSocket of our own clients, with the example key of RFC 6455, section 1.3.
    async fn echo(&self, mut stream: BufReader<TcpStream>) -> anyhow::Result<()> {
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        loop {
            let mut head = [0; 6];
            stream.read_exact(&mut head).await?;
            let [kind, length, mask @ ..] = head;
            let mut frame = vec![kind, length & 0x7f];
            let mut payload = vec![0; usize::from(length & 0x7f)];
            stream.read_exact(&mut payload).await?;
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            let close = kind & 0x0f == 8;
            if !close {
                self.record(std::str::from_utf8(&payload)?)?;
            }
            frame.extend(payload);
            stream.write_all(&frame).await?;
            if close {
                return Ok(());
            }
        }
    }
}

/// The path and the body of a request.
async fn read(stream: &mut BufReader<TcpStream>) -> anyhow::Result<(String, Vec<u8>)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        ensure!(stream.read_line(&mut head).await? > 0, "closed in the middle");
        let line = &head[start..];
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let path = head.split(' ').nth(1).context("no path")?.to_owned();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((path, body))
}
