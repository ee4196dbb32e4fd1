//! Questions over TCP (RFC 7766), with a limit on everything that a client could take for itself.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use weir_config::{ClientKey, Snapshot, Snapshots};

use crate::{
    counters::Counters,
    request::{Question, Request},
    respond::{Client, Responder, Transport, now},
    transfer::{self, TransferCounters},
};

/// How many connections there may be, and how long they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    pub connections: usize,
    /// Of one address, or of an IPv6 network of 64 bits.
    pub connections_per_client: usize,
    /// From one message to the next.
    pub idle: Duration,
    /// From the first octet of a message to its last, and for an answer to be taken.
    pub message: Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            connections: 1000,
            connections_per_client: 50,
            idle: Duration::from_secs(10),
            message: Duration::from_secs(5),
        }
    }
}

/// Answers to pipelined questions go out together up to so many octets.
const TOGETHER: usize = 16 << 10;

/// The connections of all listeners.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: TcpLimits,
    open: Mutex<Open>,
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// As many entries as there are connections, at most.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    clients: HashMap<ClientKey, usize>,
}

impl Connections {
    pub(crate) fn new(limits: TcpLimits) -> Self {
        let (accepted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { limits, open: Mutex::default(), accepted, refused }
    }

    pub(crate) fn open(&self) -> usize {
        self.lock().all
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Because there were too many.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        self.accepted.fetch_add(1, Relaxed);
        let client = ClientKey::from(address);
        let mut open = self.lock();
        let of_client = open.clients.get(&client).copied().unwrap_or_default();
        if open.all >= self.limits.connections || of_client >= self.limits.connections_per_client {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        open.all += 1;
        open.clients.insert(client, of_client + 1);
        drop(open);
        Some(Admitted { connections: self.clone(), client })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
struct Admitted {
    connections: Arc<Connections>,
    client: ClientKey,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.all -= 1;
        if let Some(of_client) = open.clients.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                open.clients.remove(&self.client);
            }
        }
    }
}

/// What every connection needs.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) snapshots: Snapshots,
    pub(crate) responder: Arc<Responder>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) transfers: Arc<TransferCounters>,
    pub(crate) is_over: watch::Receiver<bool>,
}

/// Accepts connections until it is told to stop.
pub(crate) async fn serve(listener: TcpListener, shared: Shared) {
    let mut is_over = shared.is_over.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = is_over.wait_for(|is_over| *is_over) => return,
        };
        match accepted {
            Ok((stream, from)) => {
                // Without room, it is closed at once: its client turns to another server.
                if let Some(admitted) = shared.connections.admit(from.ip()) {
                    tokio::spawn(connection(stream, from, shared.clone(), admitted));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, shared: Shared, _admitted: Admitted) {
    let mut is_over = shared.is_over.clone();
    let address = from.ip().to_canonical();
    let answered = tokio::select! {
        answered = answer(stream, address, &shared) => answered,
        _ = is_over.wait_for(|is_over| *is_over) => return,
    };
    if let Err(error) = answered {
        tracing::debug!(%from, %error, "a connection has ended");
    }
}

/// Answers one message after the other, in the order in which they come.
async fn answer(stream: TcpStream, address: IpAddr, shared: &Shared) -> io::Result<()> {
    let limits = &shared.connections.limits;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let (mut message, mut answer, mut out) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let first = timeout(limits.idle, stream.read_u8()).await?;
        let first = match first {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            first => first?,
        };
        timeout(limits.message, read(&mut stream, first, &mut message)).await??;
        let client = Client { address, transport: Transport::Tcp, now: now() };
        let snapshot = shared.snapshots.current();
        if let Some((request, question)) = asked_for_zone(&message) {
            timeout(limits.message, stream.get_mut().write_all(&out)).await??;
            out.clear();
            send_zone(stream.get_mut(), &snapshot, &request, &question, client, shared).await?;
            continue;
        }
        shared.responder.respond(&snapshot, &message, client, &shared.counters, &mut answer);
        if answer.is_empty() {
            // What is no question is no use of a connection.
            return Ok(());
        }
        out.extend_from_slice(&(answer.len() as u16).to_be_bytes());
        out.extend_from_slice(&answer);
        if !has_message(stream.buffer()) || out.len() >= TOGETHER {
            timeout(limits.message, stream.get_mut().write_all(&out)).await??;
            out.clear();
        }
    }
}

fn asked_for_zone(message: &[u8]) -> Option<(Request<'_>, Question<'_>)> {
    let request = Request::parse(message).ok()?;
    let question = request.question.filter(transfer::is_asked_for)?;
    Some((request, question))
}

/// Sends a zone as a whole, one message after the other, as fast as the client takes them.
async fn send_zone(
    stream: &mut TcpStream,
    snapshot: &Snapshot,
    request: &Request<'_>,
    question: &Question<'_>,
    client: Client,
    shared: &Shared,
) -> io::Result<()> {
    let limit = shared.connections.limits.message;
    let mut message = Vec::new();
    let now = || now() / 1_000_000;
    match transfer::begin(snapshot, request, question, client.address, now()) {
        Err(denied) => {
            shared.counters.answered(denied.write(request, *question, now(), &mut message));
            shared.transfers.denied.fetch_add(1, Relaxed);
            timeout(limit, send(stream, &message)).await?
        }
        Ok(mut zone) => {
            let mut next = zone.messages(request, question);
            while next(&mut message, now()) {
                timeout(limit, send(stream, &message)).await??;
            }
            shared.transfers.sent.fetch_add(1, Relaxed);
            Ok(())
        }
    }
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(&(message.len() as u16).to_be_bytes()).await?;
    stream.write_all(message).await
}

/// The rest of a message, of whose length the first octet is known.
async fn read(
    stream: &mut BufReader<TcpStream>,
    first: u8,
    message: &mut Vec<u8>,
) -> io::Result<()> {
    let len = u16::from_be_bytes([first, stream.read_u8().await?]);
    message.clear();
    // Grows with what comes, and not with what is announced.
    let read = (&mut *stream).take(len.into()).read_to_end(message).await?;
    if read < len.into() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Whether a whole message is there already.
fn has_message(buffered: &[u8]) -> bool {
    buffered
        .split_first_chunk::<2>()
        .is_some_and(|(len, rest)| rest.len() >= usize::from(u16::from_be_bytes(*len)))
}
