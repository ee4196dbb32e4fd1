//! Clients of every kind, each request with a number of its own.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use reqwest::{Certificate, ClientBuilder, Method};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    book::{Book, Id, Kind},
    server::Server,
};
use crate::load::client::{Client, trust};

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// After a failure, so that a server that is gone is not all that there is to do.
const PAUSE: Duration = Duration::from_millis(10);

/// So many bytes beside its number are in a POST's body: more than one read.
const BODY: usize = 20_000;

/// Requests at once on one HTTP/2 connection, by method.
const STREAMS: usize = 8;

/// Connections that are kept, by method.
const CONNECTIONS: usize = 4;

/// The life of a WebSocket, which stays with its process through an upgrade.
const WEBSOCKET: Duration = Duration::from_millis(500);

/// Starts all of them.
pub(super) fn start(server: &Server, app: &str, book: &Arc<Book>) -> anyhow::Result<JoinSet<()>> {
    let pem = fs::read(server.roots())?;
    let host = Server::host(app);
    let secure = || -> anyhow::Result<ClientBuilder> {
        let client = client(&host, server.https);
        Ok(client.tls_certs_only([Certificate::from_pem(&pem)?]))
    };
    let plain = || client(&host, server.http);
    let http = format!("http://{host}:{}", server.http.port());
    let https = format!("https://{host}:{}", server.https.port());
    // With no connection kept, each request makes one.
    let kinds = [
        ("HTTP/1.1", plain().http1_only(), &http, CONNECTIONS),
        ("HTTP/1.1 with TLS", secure()?.http1_only(), &https, CONNECTIONS),
        ("HTTP/2", secure()?, &https, STREAMS),
        ("new HTTP/1.1", secure()?.http1_only().pool_max_idle_per_host(0), &https, 1),
        ("new HTTP/2", secure()?.pool_max_idle_per_host(0), &https, 1),
    ];
    let mut clients = JoinSet::new();
    for (name, builder, url, concurrency) in kinds {
        let client = builder.build()?;
        for kind in [Kind::Get, Kind::Post].repeat(concurrency) {
            clients.spawn(requests(client.clone(), url.clone(), kind, name, book.clone()));
        }
    }
    let tls = Arc::new(trust(&server.roots())?);
    for _ in 0..CONNECTIONS {
        let (name, http, https) = (host.clone(), server.http, server.https);
        clients.spawn(sockets(name.clone(), http, None, book.clone()));
        clients.spawn(sockets(name, https, Some(tls.clone()), book.clone()));
    }
    Ok(clients)
}

fn client(host: &str, address: SocketAddr) -> ClientBuilder {
    reqwest::Client::builder().resolve(host, address).timeout(PATIENCE).no_proxy()
}

async fn requests(
    client: reqwest::Client,
    url: String,
    kind: Kind,
    name: &'static str,
    book: Arc<Book>,
) {
    while let Some(id) = book.send(kind, name) {
        let url = format!("{url}/{id}");
        let request = match kind {
            Kind::Post => {
                let body = format!("{id} {}", "x".repeat(BODY));
                client.request(Method::POST, url).body(body)
            }
            _ => client.get(url),
        };
        let answer = async {
            let answer = request.send().await?;
            let (status, text) = (answer.status(), answer.text().await?);
            ensure!(status == 200 && text == id.to_string(), "answered {status}: {text}");
            Ok(())
        };
        end(&book, id, answer.await).await;
    }
}

/// One WebSocket after another, each closed as the protocol wants it.
async fn sockets(
    host: String,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    book: Arc<Book>,
) {
    let name = if tls.is_some() { "WebSocket with TLS" } else { "WebSocket" };
    // The handshake is a request too: a GET that the upstream does not count.
    while let Some(id) = book.send(Kind::Message, name) {
        let lived = async {
            match &tls {
                Some(tls) => {
                    let client = Client::connect_tls(address, &host, tls.clone());
                    socket(client.await.map_err(|error| (id, error))?, &host, id, name, &book).await
                }
                None => {
                    let client = Client::connect(address).await.map_err(|error| (id, error))?;
                    socket(client, &host, id, name, &book).await
                }
            }
        };
        if let Err((id, error)) = lived.await {
            end(&book, id, Err(error)).await;
        }
    }
}

/// Opens a WebSocket and sends the first message, and then others for a while. With an error comes
/// the message that was not answered.
async fn socket<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: Client<S>,
    host: &str,
    first: Id,
    name: &'static str,
    book: &Book,
) -> Result<(), (Id, anyhow::Error)> {
    let opened = async {
        // With the example key of RFC 6455, section 1.3.
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let answer = client.ask(&request).await?;
        ensure!(answer.status == 101, "the handshake was answered {}", answer.status);
        Ok(())
    };
    within(opened).await.context("no WebSocket").map_err(|error| (first, error))?;
    let (began, mut next) = (Instant::now(), Some(first));
    while let Some(id) = next {
        let payload = id.to_string();
        let echo = within(exchange(&mut client.stream, TEXT, payload.as_bytes())).await;
        echo.map_err(|error| (id, error))?;
        book.end(id, Ok(()));
        next = (began.elapsed() < WEBSOCKET).then(|| book.send(Kind::Message, name)).flatten();
    }
    // Whether the end is heard by both is not what is counted.
    let _ = within(exchange(&mut client.stream, CLOSE, &[])).await;
    Ok(())
}

/// Opcodes of RFC 6455, section 5.2.
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// Sends a short frame, masked with zeros, and wants it back.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    opcode: u8,
    payload: &[u8],
) -> anyhow::Result<()> {
    let (kind, length) = (0x80 | opcode, u8::try_from(payload.len())?);
    let mut frame = vec![kind, 0x80 | length, 0, 0, 0, 0];
    frame.extend(payload);
    stream.write_all(&frame).await?;
    let mut echo = vec![0; 2 + payload.len()];
    stream.read_exact(&mut echo).await?;
    ensure!(echo[..2] == [kind, length] && &echo[2..] == payload, "an echo is not what was sent");
    Ok(())
}

async fn within(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    timeout(PATIENCE, work).await.context("no answer in time")?
}

async fn end(book: &Book, id: Id, outcome: anyhow::Result<()>) {
    let failed = outcome.is_err();
    book.end(id, outcome.map_err(|error| format!("{error:#}")));
    if failed {
        sleep(PAUSE).await;
    }
}
