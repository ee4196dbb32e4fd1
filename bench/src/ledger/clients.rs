//! Clients of every kind, each request with a number of its own.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use reqwest::{Certificate, ClientBuilder, Method};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout},
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

/// Starts all of them. With a rate they ask no more than so many times a second together, and else
/// each as soon as it has been answered.
pub(super) fn start(
    server: &Server,
    app: &str,
    book: &Arc<Book>,
    rate: Option<u32>,
) -> anyhow::Result<JoinSet<()>> {
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
    let count = 2 * (kinds.iter().map(|kind| kind.3).sum::<usize>() + CONNECTIONS);
    let mut paces = Pace::of_each(count, rate);
    let mut clients = JoinSet::new();
    for (name, builder, url, concurrency) in kinds {
        let client = builder.build()?;
        for kind in [Kind::Get, Kind::Post].repeat(concurrency) {
            let pace = paces.next().context("a pace for each")?;
            clients.spawn(requests(client.clone(), url.clone(), kind, name, book.clone(), pace));
        }
    }
    let tls = Arc::new(trust(&server.roots())?);
    for _ in 0..CONNECTIONS {
        for (address, tls) in [(server.http, None), (server.https, Some(tls.clone()))] {
            let pace = paces.next().context("a pace for each")?;
            clients.spawn(sockets(host.clone(), address, tls, book.clone(), pace));
        }
    }
    Ok(clients)
}

fn client(host: &str, address: SocketAddr) -> ClientBuilder {
    reqwest::Client::builder().resolve(host, address).timeout(PATIENCE).no_proxy()
}

/// How often one client asks.
struct Pace(Option<Interval>);

impl Pace {
    /// Those of so many clients, one after the other.
    fn of_each(count: usize, rate: Option<u32>) -> impl Iterator<Item = Self> {
        let start = Instant::now();
        (0..count).map(move |n| {
            Self(rate.map(|rate| {
                let between = Duration::from_secs(1) / rate;
                let mut interval = interval_at(start + between * n as u32, between * count as u32);
                // What a slow answer has cost is not made up for by a burst.
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                interval
            }))
        })
    }

    async fn keep(&mut self) {
        if let Some(interval) = &mut self.0 {
            interval.tick().await;
        }
    }
}

async fn requests(
    client: reqwest::Client,
    url: String,
    kind: Kind,
    name: &'static str,
    book: Arc<Book>,
    mut pace: Pace,
) {
    loop {
        pace.keep().await;
        let Some(id) = book.send(kind, name) else { return };
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
    mut pace: Pace,
) {
    let name = if tls.is_some() { "WebSocket with TLS" } else { "WebSocket" };
    // The handshake is a request too: a GET that the upstream does not count.
    while let Some(id) = book.send(Kind::Message, name) {
        let lived = async {
            match &tls {
                Some(tls) => {
                    let client = Client::connect_tls(address, &host, tls.clone());
                    let client = client.await.map_err(|error| (id, error))?;
                    socket(client, &host, id, name, &book, &mut pace).await
                }
                None => {
                    let client = Client::connect(address).await.map_err(|error| (id, error))?;
                    socket(client, &host, id, name, &book, &mut pace).await
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
    pace: &mut Pace,
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
        pace.keep().await;
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
