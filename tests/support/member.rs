//! A server that nobody but the test keeps running: it answers every request with its name.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub struct Member {
    pub name: String,
    pub address: SocketAddr,
    ended: watch::Sender<bool>,
    healthy: Arc<AtomicBool>,
}

impl Member {
    pub async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ended, mut end) = watch::channel(false);
        let healthy = Arc::new(AtomicBool::new(true));
        let (body, is_healthy) = (name.to_owned(), healthy.clone());
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = end.changed() => return,
                };
                tokio::spawn(serve(stream, body.clone(), is_healthy.clone(), end.clone()));
            }
        });
        Self { name: name.to_owned(), address, ended, healthy }
    }

    /// Ends it as a process ends that is asked to: it listens no more, answers what it has been
    /// asked, and closes its connections.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// What `/healthz` answers from now on.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }
}

async fn serve(
    mut stream: TcpStream,
    name: String,
    healthy: Arc<AtomicBool>,
    mut end: watch::Receiver<bool>,
) {
    let mut head = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = tokio::select! {
            read = stream.read(&mut chunk) => read.unwrap_or(0),
            _ = end.wait_for(|ended| *ended), if head.is_empty() => return,
        };
        if read == 0 {
            return;
        }
        head.extend_from_slice(&chunk[..read]);
        // The requests of these tests have no bodies.
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let is_check = head.starts_with(b"GET /healthz ");
        let status = match is_check && !healthy.load(Ordering::Relaxed) {
            true => "503 Service Unavailable",
            false => "200 OK",
        };
        let length = name.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{name}");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        head.clear();
    }
}
