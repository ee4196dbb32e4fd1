//! What a request needs to know of the connection that it came over.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pingora::{http::ResponseHeader, protocols::raw_connect::ProxyDigest, proxy::Session};
use tokio::time::Instant;
use weir_config::{AppName, ClientAuth, Networks};

use crate::{listen::Open, tls::ClientCertificate};

/// One client's connection, shared by its stream, its requests and the task that carries it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Who is at the other end, or whom a PROXY header says to be there.
    pub(crate) client: SocketAddr,
    /// Where the client reached us.
    pub(crate) local: SocketAddr,
    pub(crate) tls: Option<Tls>,
    /// The app that calls, by a private name; `None` of everybody else.
    pub(crate) caller: Option<AppName>,
    trusted_proxies: Networks,
    client_is_trusted: bool,
    /// Counted until the last of all who know this connection is gone.
    pub(crate) open: Open,
    /// When it could carry its first request.
    ready: Instant,
    state: AtomicU8,
    /// When the state's clock began, in milliseconds since `ready`.
    since: AtomicU64,
    requests: AtomicU64,
    cancelled: AtomicU64,
    /// The status that a header was answered with before it made a request; 0 if none was.
    unread: AtomicU16,
}

/// What was agreed upon in the handshake.
#[derive(Debug)]
pub(crate) struct Tls {
    /// The host that the client asked for, in lowercase.
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
    /// What the client was asked to prove.
    pub(crate) client_auth: Option<ClientAuth>,
    /// What it proved.
    pub(crate) client_certificate: Option<ClientCertificate>,
}

/// What the client of a connection is expected to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// To begin its first request. The clock runs since the connection was ready.
    Fresh,
    /// To send the rest of a request's header. The clock runs since its first byte, or, for the
    /// first request, since the connection was ready.
    Head,
    /// To wait for an answer, send a body or use its WebSocket: the request's own limits apply.
    Busy,
    /// To begin its next request. The clock runs since the end of the former one.
    Idle,
    /// Anything at any time, for good: an HTTP/2 connection once it has begun.
    Multiplexed,
}

/// A request that is given up sooner was hardly made to be answered; so many may be, whatever their
/// share. Envoy draws the line at the same place.
const PREMATURE: Duration = Duration::from_secs(1);
const MAX_CANCELLED: u64 = 500;

const STATES: [State; 5] =
    [State::Fresh, State::Head, State::Busy, State::Idle, State::Multiplexed];

/// The connection of a request. `None` for a session that is not a client's, as in a unit test.
pub(crate) fn of(session: &Session) -> Option<&Connection> {
    let digest = session.digest()?.proxy_digest.as_deref()?;
    digest.user_data.as_ref()?.downcast_ref::<Arc<Connection>>().map(|connection| &**connection)
}

impl Connection {
    pub(crate) fn new(
        client: SocketAddr,
        local: SocketAddr,
        tls: Option<Tls>,
        trusted_proxies: Networks,
        open: Open,
    ) -> Self {
        Self {
            client,
            local,
            tls,
            caller: None,
            client_is_trusted: trusted_proxies.contain(client.ip()),
            trusted_proxies,
            open,
            ready: Instant::now(),
            state: AtomicU8::new(State::Fresh as u8),
            since: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            unread: AtomicU16::new(0),
        }
    }

    /// One that an app made, by the connection of its device.
    pub(crate) fn by_app(caller: AppName, from: SocketAddr, open: Open) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let nobody = Networks::default();
        Self { caller: Some(caller), ..Self::new(from, nowhere, None, nobody, open) }
    }

    /// The client's address. An IPv4 client of an IPv6 listener is told as what it is.
    pub(crate) fn client_ip(&self) -> IpAddr {
        self.client.ip().to_canonical()
    }

    /// For how long it has been able to carry requests.
    pub(crate) fn age(&self) -> Duration {
        self.ready.elapsed()
    }

    /// Whether what the client says of its own client is believed.
    pub(crate) fn is_trusted(&self) -> bool {
        self.client_is_trusted
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.contain(address)
    }

    pub(crate) fn client_auth(&self) -> Option<&ClientAuth> {
        self.tls.as_ref()?.client_auth.as_ref()
    }

    pub(crate) fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.tls.as_ref()?.client_certificate.as_ref()
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.tls.as_ref()?.server_name.as_deref()
    }

    /// Requests that began on it, the present one included.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(crate) fn state(&self) -> State {
        // Only the discriminants of `State` are stored.
        STATES.get(usize::from(self.state.load(Relaxed))).copied().unwrap_or(State::Busy)
    }

    /// When the clock of the present state began.
    pub(crate) fn since(&self) -> Instant {
        self.ready + Duration::from_millis(self.since.load(Relaxed))
    }

    /// How long nothing has come, if nothing need come.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.is_silent().then(|| self.since().elapsed())
    }

    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.state(), State::Fresh | State::Idle)
    }

    /// Bytes have come.
    pub(crate) fn heard(&self) {
        match self.state() {
            State::Fresh => self.enter(State::Head),
            State::Idle => {
                self.restart_clock();
                self.enter(State::Head);
            }
            State::Head | State::Busy | State::Multiplexed => {}
        }
    }

    /// A request's header is there.
    pub(crate) fn request_begins(&self) {
        self.requests.fetch_add(1, Relaxed);
        if self.state() != State::Multiplexed {
            self.enter(State::Busy);
        }
    }

    /// A request's answer has ended.
    pub(crate) fn request_ends(&self) {
        if self.state() == State::Busy {
            self.restart_clock();
            self.enter(State::Idle);
        }
    }

    /// The client gave up a request so long after it came.
    pub(crate) fn request_is_cancelled(&self, after: Duration) {
        if after < PREMATURE {
            self.cancelled.fetch_add(1, Relaxed);
        }
    }

    /// Whether the client asks mostly for the sake of asking: each request costs a connection to an
    /// instance, and to give it up at once costs nothing (CVE-2023-44487). Browsers give up many,
    /// but not most. A trusted proxy passes on what many clients do.
    pub(crate) fn is_abused(&self) -> bool {
        let cancelled = self.cancelled.load(Relaxed);
        cancelled > MAX_CANCELLED && cancelled > self.requests() / 2 && !self.is_trusted()
    }

    /// Bytes go to the client. In the middle of a header, they refuse it: nobody else hears of that.
    pub(crate) fn says(&self, bytes: &[u8]) {
        if self.state() == State::Head
            && let Some(status) = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3))
        {
            let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
            self.unread.store(status.unwrap_or_default(), Relaxed);
        }
    }

    /// What it refused its last header with.
    pub(crate) fn unread(&self) -> Option<u16> {
        Some(self.unread.load(Relaxed)).filter(|status| *status != 0)
    }

    pub(crate) fn multiplexes(&self) {
        self.enter(State::Multiplexed);
    }

    fn enter(&self, state: State) {
        // Read and written in the connection's own task only, but for the requests of HTTP/2, which
        // leave it as it is.
        self.state.store(state as u8, Relaxed);
    }

    fn restart_clock(&self) {
        self.since.store(self.ready.elapsed().as_millis() as u64, Relaxed);
    }
}

/// Carries a connection to the requests on it. Pingora means this for what the proxy of a CONNECT
/// answered; it is the one thing of ours that it hands from a stream to its sessions, over HTTP/1.1
/// and HTTP/2 alike.
pub(crate) fn digest(connection: Arc<Connection>) -> pingora::Result<ProxyDigest> {
    let response = Box::new(ResponseHeader::build(200, Some(0))?);
    Ok(ProxyDigest { response, user_data: Some(Box::new(connection)) })
}
