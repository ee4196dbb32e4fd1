//! A server that something else keeps running: it counts what reaches it.
//!
//! | path | answer |
//! |---|---|
//! | `/count/ID` | `ID`, for GET and POST |
//! | `/held` | once [`Upstream::release`] was called |
//! | `/ws` | a WebSocket that sends back every short message |

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    released: Arc<watch::Sender<bool>>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let released = Arc::new(watch::Sender::new(false));
        let this = Self { address, counts: Arc::default(), released };
        let server = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                // Who goes away in the middle ends their connection, nothing else.
                tokio::spawn(async move { server.serve(BufReader::new(stream)).await });
            }
        });
        this
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
                None => "ok",
            };
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
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
