//! A server that something else keeps running: it says who it is, and counts what reaches it.
//!
//! | path | answer |
//! |---|---|
//! | `/count/ID` | `ID`, for GET and POST |
//! | `/held` | once [`Upstream::release`] was called |
//! | `/ws` | a WebSocket that sends back every short message |
//! | `/healthz` | 200, or 503 after [`Upstream::set_healthy`] |
//! | any other | its name |

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[derive(Clone)]
pub struct Upstream {
    pub name: String,
    pub address: SocketAddr,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    released: Arc<watch::Sender<bool>>,
    ended: Arc<watch::Sender<bool>>,
    healthy: Arc<AtomicBool>,
}

impl Upstream {
    pub async fn start() -> Self {
        Self::named("ok").await
    }

    pub async fn named(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = Self {
            name: name.to_owned(),
            address,
            counts: Arc::default(),
            released: Arc::default(),
            ended: Arc::default(),
            healthy: Arc::new(AtomicBool::new(true)),
        };
        let server = this.clone();
        tokio::spawn(async move {
            while let Some(stream) = server.accept(&listener).await {
                let server = server.clone();
                // Who goes away in the middle ends their connection, nothing else.
                tokio::spawn(async move { server.serve(BufReader::new(stream)).await });
            }
        });
        this
    }

    async fn accept(&self, listener: &TcpListener) -> Option<TcpStream> {
        tokio::select! {
            accepted = listener.accept() => accepted.ok().map(|(stream, _)| stream),
            () = self.end_told() => None,
        }
    }

    /// Ends it as a process ends that is asked to: it listens no more, answers what it has been
    /// asked, and closes its connections.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    async fn end_told(&self) {
        self.ended.subscribe().wait_for(|ended| *ended).await.unwrap();
    }

    /// What `/healthz` answers from now on.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    /// How often each `/count/ID` has arrived.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.lock().unwrap().clone()
    }

    /// Answers everyone at `/held`, now and from now on.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    async fn serve(&self, mut stream: BufReader<TcpStream>) -> Option<()> {
        loop {
            tokio::select! {
                available = stream.fill_buf() => { available.ok()?; }
                () = self.end_told() => return None,
            }
            let (mut head, mut length) = (Vec::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
                if line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push(line);
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            let path = head[0].split(' ').nth(1).unwrap();
            let text = match path.strip_prefix("/count/") {
                Some(id) => {
                    *self.counts.lock().unwrap().entry(id.to_owned()).or_default() += 1;
                    id
                }
                None if path == "/ws" => return echo(stream).await,
                None if path == "/held" => {
                    self.released.subscribe().wait_for(|released| *released).await.unwrap();
                    "released"
                }
                None => &self.name,
            };
            let is_unwell = path == "/healthz" && !self.healthy.load(Ordering::Relaxed);
            let status = if is_unwell { "503 Service Unavailable" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}

/// A WebSocket of one client, [`super::websocket`], whose key is that of RFC 6455 section 1.3.
async fn echo(mut stream: BufReader<TcpStream>) -> Option<()> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(head.as_bytes()).await.ok()?;
    loop {
        let mut frame = [0; 6];
        stream.read_exact(&mut frame).await.ok()?;
        let [kind, length, mask @ ..] = frame;
        let mut text = vec![0; usize::from(length & 0x7f)];
        stream.read_exact(&mut text).await.ok()?;
        text.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        stream.write_all(&[kind, text.len() as u8]).await.ok()?;
        stream.write_all(&text).await.ok()?;
    }
}
