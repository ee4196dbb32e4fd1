//! Somebody who is told: takes what is posted to it, and keeps it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// One request, with the names of its headers in lowercase.
#[derive(Clone, Debug)]
pub struct Posted {
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

#[derive(Clone)]
pub struct Sink {
    pub address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
    /// So many requests are still to be answered by an error.
    failures: Arc<AtomicUsize>,
}

impl Sink {
    /// One that fails so often first.
    pub async fn failing(failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let failures = Arc::new(AtomicUsize::new(failures));
        let this = Self { address, posted: Arc::default(), failures };
        let sink = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = sink.clone();
                tokio::spawn(async move { sink.serve(BufReader::new(stream)).await });
            }
        });
        this
    }

    /// Everything posted so far, that was answered by an error too.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    async fn serve(&self, mut stream: BufReader<TcpStream>) -> Option<()> {
        loop {
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
                if line == "\r\n" {
                    break;
                }
                if let Some((name, value)) = line.split_once(':') {
                    headers.insert(name.to_lowercase(), value.trim().to_owned());
                }
            }
            let mut body = vec![0; headers["content-length"].parse().unwrap()];
            stream.read_exact(&mut body).await.ok()?;
            let body = String::from_utf8(body).unwrap();
            let one_less = |left: usize| left.checked_sub(1);
            let fails =
                self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
            self.posted.lock().unwrap().push(Posted { headers, body });
            let status = if fails { "500 No" } else { "200 Yes" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}
