//! Servers as apps run them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Uri, Version},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, watch},
};
use tokio_rustls::TlsAcceptor;

use crate::clients::read_until;

/// An HTTP server that answers with what it was asked.
#[derive(Clone)]
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Connections,
    name: &'static str,
    hits: Arc<AtomicU64>,
    open: watch::Sender<bool>,
}

/// How many connections a server has accepted.
pub(crate) type Connections = Arc<AtomicU64>;

impl Echo {
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::with(name, true, None).await
    }

    pub(crate) async fn start_tls(name: &'static str, tls: TlsAcceptor) -> Self {
        Self::with(name, true, Some(tls)).await
    }

    /// Receives requests, and answers none before [`Echo::open`].
    pub(crate) async fn start_closed(name: &'static str) -> Self {
        Self::with(name, false, None).await
    }

    async fn with(name: &'static str, open: bool, tls: Option<TlsAcceptor>) -> Self {
        let (listener, address) = bind().await;
        let (open, _) = watch::channel(open);
        let connections = Connections::default();
        let echo =
            Self { address, connections: connections.clone(), name, hits: Arc::default(), open };
        let app = Router::new().fallback(Self::answer).with_state(echo.clone());
        tokio::spawn(accept(listener, app, tls, connections));
        echo
    }

    async fn answer(
        State(echo): State<Self>,
        version: Version,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Json<Value> {
        echo.hits.fetch_add(1, SeqCst);
        let _ = echo.open.subscribe().wait_for(|open| *open).await;
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
            .collect();
        Json(json!({
            "name": echo.name,
            "version": format!("{version:?}"),
            "method": method.as_str(),
            "path": uri.to_string(),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        }))
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(SeqCst)
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(SeqCst)
    }
}

/// Serves an app over HTTP/1.1 and HTTP/2, whichever a connection begins with.
pub(crate) async fn serve(app: Router) -> SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(accept(listener, app, None, Connections::default()));
    address
}

async fn accept(
    listener: TcpListener,
    app: Router,
    tls: Option<TlsAcceptor>,
    connections: Connections,
) {
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, SeqCst);
        let (app, tls) = (TowerToHyperService::new(app.clone()), tls.clone());
        tokio::spawn(async move {
            let http = Builder::new(TokioExecutor::new());
            // Whoever is there no more does not matter here.
            match tls {
                None => drop(http.serve_connection_with_upgrades(TokioIo::new(stream), app).await),
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    drop(http.serve_connection_with_upgrades(TokioIo::new(stream), app).await);
                }
            }
        });
    }
}

/// All values of a header that an [`Echo`] received.
pub(crate) fn received<'a>(echoed: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = echoed["headers"].as_array().unwrap();
    headers.iter().filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap()).collect()
}

/// Refuses connections, and keeps the port from being anyone else's.
pub(crate) struct Refusing(TcpSocket);

impl Refusing {
    pub(crate) fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// Takes no connection and refuses none: a queue that is full and that nobody empties.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _queue: (TcpListener, Vec<TcpStream>),
}

impl BlackHole {
    pub(crate) async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        let connect =
            || tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
        while let Ok(stream) = connect().await {
            queue.push(stream.unwrap());
        }
        Self { address, _queue: (listener, queue) }
    }
}

/// Does with its n-th request, from 0, what it is told to.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    hits: Arc<AtomicU64>,
}

#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// With this status.
    Answer(u16),
    /// Closes the connection without an answer.
    HangUp,
    /// Keeps the connection and says nothing.
    Silence,
    /// Begins an answer and closes the connection when told.
    Break(&'static Notify),
    /// Begins an answer and says no more.
    Stall,
    /// So many pieces of a body, one each 20 ms.
    Drip(usize),
}

impl Scripted {
    pub(crate) async fn start(script: impl Fn(u64) -> Act + Send + Sync + 'static) -> Self {
        let (listener, address) = bind().await;
        let (hits, script) = (Arc::new(AtomicU64::new(0)), Arc::new(script));
        let scripted = Self { address, hits: hits.clone() };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (hits, script) = (hits.clone(), script.clone());
                tokio::spawn(async move {
                    while read_request(&mut stream).await {
                        let act = script(hits.fetch_add(1, SeqCst));
                        if act.perform(&mut stream).await.is_none() {
                            break;
                        }
                    }
                });
            }
        });
        scripted
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(SeqCst)
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

impl Act {
    /// `None` ends the connection.
    async fn perform(self, stream: &mut TcpStream) -> Option<()> {
        let head = |status: u16| format!("HTTP/1.1 {status} X\r\nContent-Length: 8\r\n\r\n");
        match self {
            Self::Answer(status) => {
                let answer = head(status) + "scripted";
                stream.write_all(answer.as_bytes()).await.ok()
            }
            Self::HangUp => None,
            Self::Silence => std::future::pending().await,
            Self::Break(told) => {
                stream.write_all((head(200) + "scr").as_bytes()).await.ok()?;
                told.notified().await;
                None
            }
            Self::Stall => {
                stream.write_all(CHUNKED.as_bytes()).await.ok()?;
                stream.write_all(b"1\r\n.\r\n").await.ok()?;
                std::future::pending().await
            }
            Self::Drip(pieces) => {
                stream.write_all(CHUNKED.as_bytes()).await.ok()?;
                for _ in 0..pieces {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    stream.write_all(b"1\r\n.\r\n").await.ok()?;
                }
                stream.write_all(b"0\r\n\r\n").await.ok()
            }
        }
    }
}

/// Reads a request with its body; false at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.is_ok()
}

/// Reads a request and closes the connection without an answer.
pub(crate) async fn hangs_up() -> SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { read_until(&mut stream, "\r\n\r\n").await });
        }
    });
    address
}

/// Answers each request with the first line of it, and takes a body to end where it ends: what
/// comes after is the next request.
pub(crate) async fn strict() -> SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                loop {
                    let head = read_until(&mut stream, "\r\n\r\n").await;
                    if head.contains("chunked") {
                        read_until(&mut stream, "\r\n0\r\n\r\n").await;
                    }
                    let first = head.lines().next().unwrap_or_default();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{first}",
                        first.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

/// Answers with a body whose length it does not say.
pub(crate) async fn chunked() -> SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_until(&mut stream, "\r\n\r\n").await;
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                          4\r\nsome\r\n4\r\nmore\r\n0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

/// Switches protocols, greets, and then sends back what comes, each line after a `>`.
pub(crate) async fn web_socket() -> SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { speak_web_socket(&mut stream).await });
        }
    });
    address
}

pub(crate) async fn web_socket_tls(tls: TlsAcceptor) -> SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(
                async move { speak_web_socket(&mut tls.accept(stream).await.unwrap()).await },
            );
        }
    });
    address
}

async fn speak_web_socket(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let head = read_until(stream, "\r\n\r\n").await;
    assert!(head.to_lowercase().contains("upgrade: websocket"), "{head}");
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                  Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let line = [b">", &buffer[..n]].concat();
        stream.write_all(&line).await.unwrap();
        stream.flush().await.unwrap();
    }
}

/// Switches protocols and sends back what comes, byte for byte.
pub(crate) async fn mirror() -> SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_until(&mut stream, "\r\n\r\n").await;
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                              Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let (mut reading, mut writing) = stream.split();
                let _ = tokio::io::copy(&mut reading, &mut writing).await;
            });
        }
    });
    address
}

pub(crate) async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Answers with a body that never ends.
pub(crate) async fn endless() -> SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_until(&mut stream, "\r\n\r\n").await;
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                while stream.write_all(&[b'x'; 16 << 10]).await.is_ok() {}
            });
        }
    });
    address
}
