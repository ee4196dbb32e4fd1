//! A server that keeps what it hears, byte by byte.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::upstreams::bind;

/// Keeps what it hears: each request as far as its framing says that it goes.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

#[derive(Debug)]
pub(crate) struct Heard {
    /// `None` if it did not come to its end.
    pub(crate) body: Option<String>,
    /// How many headers say where the body ends.
    pub(crate) framings: usize,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let (listener, address) = bind().await;
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let hearing = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(record(stream, hearing.clone()));
            }
        });
        Self { address, heard }
    }

    /// What was heard since the last time.
    pub(crate) fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

async fn record(stream: TcpStream, heard: Arc<Mutex<Vec<Heard>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (stream.read_line(&mut head).await.ok()? > 0).then_some(())?;
        }
        let lower = head.to_lowercase();
        let framings = lower.matches("\r\ncontent-length:").count()
            + lower.matches("\r\ntransfer-encoding:").count();
        let body = body(&mut stream, &lower).await;
        let is_whole = body.is_some();
        heard.lock().unwrap().push(Heard { body, framings });
        if !is_whole {
            return None;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok()?;
    }
}

async fn body(stream: &mut BufReader<TcpStream>, head: &str) -> Option<String> {
    let value = |name| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut body = Vec::new();
    if value("transfer-encoding:").is_some() {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).await.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await.ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = value("content-length:") {
        body.resize(length.parse().ok()?, 0);
        stream.read_exact(&mut body).await.ok()?;
    }
    String::from_utf8(body).ok()
}
