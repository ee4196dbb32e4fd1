//! The two listeners, from bound sockets to a drained proxy.

mod accept;
mod connections;
mod proxy_protocol;
mod socket;
mod stream;
mod transport;
mod unsent;

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, SystemTime},
};

use pingora::{
    apps::HttpServerOptions,
    protocols::http::v2::server::{H2Options, default_h2_options},
    proxy::HttpProxy,
    server::configuration::ServerConf,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use weir_config::{Activity, AppName, Observe, ProxySettings, Snapshots};

use self::accept::Server;
pub(crate) use self::connections::{Connections, Dropped, Open, Port};
use crate::{
    access_log::AccessLog,
    gateway::Gateway,
    metrics::{ProxyMetrics, Unrouted},
    retry::MAX_TRIES,
    tls::{Acceptor, Certificates, EarlyWake, TicketKeys, TicketKeysError, Tickets},
    upstream::{Dial, Roots, Tunnel},
};

/// Carries what apps on devices ask of other apps. Cheap to clone.
#[derive(Clone)]
pub struct PrivateCalls(Arc<Server>);

impl PrivateCalls {
    /// Carries the requests on a connection that an app made, until it ends. `from` is the
    /// address that the app has on its device.
    pub async fn carry(self, stream: Tunnel, from: SocketAddr, caller: AppName) {
        self.0.serve_app(stream, from, caller).await;
    }
}

impl fmt::Debug for PrivateCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateCalls")
    }
}

/// The data plane, ready to serve.
pub struct Proxy {
    snapshots: Snapshots,
    tickets: Tickets,
    early_wake: Arc<EarlyWake>,
    unrouted: Arc<Unrouted>,
    access_log: Option<AccessLog>,
    server: Arc<Server>,
    closing: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
    http: Listening,
    https: Listening,
}

/// What a proxy is told about the world outside.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// The port that clients reach HTTPS at; redirects name it unless it is 443.
    pub https_port_public: u16,
    /// What this Weir is called in `CDN-Loop` (RFC 8586): the same in no two, and over restarts.
    pub cdn_id: String,
    pub settings: ProxySettings,
    /// Where each request is logged, if it is.
    pub access_log: Option<AccessLog>,
    /// A request that waits longer than this for its answer has its timeline logged.
    pub slow_request: Duration,
    /// What connects to instances on devices.
    pub devices: Arc<dyn Dial>,
}

/// What a proxy is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Running,
    /// To end well.
    Draining {
        /// Whether connections are accepted for a while still, until nobody sends any: at a stop,
        /// yes; when another process has begun to accept on the same sockets, no.
        accepting: bool,
    },
}

/// A proxy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("a listening socket cannot be used: {0}")]
    Socket(#[from] io::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("tickets of TLS cannot be made: {0}")]
    Tickets(#[from] TicketKeysError),
}

/// Connections to instances that wait for their next request, over all apps. They live for seconds
/// only, so this bounds file descriptors in a burst and is not reached in between.
const UPSTREAM_POOL: usize = 4096;

impl Proxy {
    /// Takes bound listeners, so that whoever binds can say which port is taken.
    ///
    /// # Errors
    /// When a listener cannot be used.
    pub fn new(
        snapshots: Snapshots,
        observer: Arc<dyn Observe>,
        http: TcpListener,
        https: TcpListener,
        options: ProxyOptions,
    ) -> Result<Self, ProxyError> {
        let ProxyOptions { https_port_public, cdn_id, settings, access_log, slow_request, devices } =
            options;
        let certificates = Arc::new(Certificates::new(snapshots.clone()));
        let tickets = Tickets::new(&TicketKeys::generate(SystemTime::now())?);
        let early_wake = Arc::new(EarlyWake::new(observer.clone(), settings.speculative_wake));
        let acceptor = Acceptor::new(
            snapshots.clone(),
            certificates.clone(),
            tickets.clone(),
            early_wake.clone(),
        )?;
        let unrouted = Arc::new(Unrouted::default());
        let (closing, closes) = watch::channel(false);
        let (stopping, stops) = watch::channel(false);
        let gateway = Gateway {
            snapshots: snapshots.clone(),
            observer,
            certificates,
            early_wake: early_wake.clone(),
            unrouted: unrouted.clone(),
            roots: Roots::default(),
            devices,
            https_port_public,
            cdn_id,
            closing: closes.clone(),
            stopping: stops.clone(),
            access_log: access_log.clone(),
            slow_request,
        };
        let server = Arc::new(Server {
            proxy: Arc::new(http_proxy(gateway, &settings)),
            acceptor,
            connections: Arc::new(Connections::new(
                settings.max_connections,
                settings.max_connections_per_client,
            )),
            settings,
            access_log: access_log.clone(),
            closing: closes,
            stopping: stops,
        });
        let (http, https) = (Listening::new(http)?, Listening::new(https)?);
        Ok(Self {
            snapshots,
            tickets,
            early_wake,
            unrouted,
            access_log,
            server,
            closing,
            stopping,
            http,
            https,
        })
    }

    /// Carries what apps on devices ask of other apps.
    pub fn calls(&self) -> PrivateCalls {
        PrivateCalls(self.server.clone())
    }

    /// What clients come back with, sealed with keys that nobody else has until they are replaced.
    pub fn tickets(&self) -> Tickets {
        self.tickets.clone()
    }

    /// Reads this proxy's metrics whenever it is asked to, out of the counters that requests write.
    pub fn metrics(&self, activity: Arc<Activity>) -> ProxyMetrics {
        let connections = self.server.connections.clone();
        ProxyMetrics::new(
            self.snapshots.clone(),
            activity,
            self.unrouted.clone(),
            connections,
            self.early_wake.clone(),
            self.access_log.clone(),
        )
    }

    /// Serves until it is told to drain. Then clients are told to go: every answer of HTTP/1.1
    /// closes its connection, and HTTP/2 gets a GOAWAY. Then, at a stop after the lame duck, the
    /// listeners close, requests that wait for an app to wake are turned away with 503, and what is
    /// silent is closed. Returns when every connection has a request in flight or is HTTP/2 or has
    /// had the time of another lame duck to send one. Requests in flight go on, on the runtime that
    /// this ran on; so do WebSockets, of which nobody here knows where a frame ends.
    pub async fn run(self, phase: watch::Receiver<Phase>) {
        let Self { server, closing, stopping, http, https, .. } = self;
        if *phase.borrow() != Phase::Running {
            return;
        }
        serve(server, http, https, phase, closing, stopping).await;
    }
}

async fn serve(
    server: Arc<Server>,
    http: Listening,
    https: Listening,
    mut phase: watch::Receiver<Phase>,
    closing: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
) {
    let lame_duck = server.settings.lame_duck;
    let connections = server.connections.clone();
    let accepting = [(Port::Http, http), (Port::Https, https)].map(|(port, listening)| {
        let accept = server.clone().accept(listening.listener, port, server.stopping.clone());
        tokio::spawn(accept)
    });

    // An error means that the sender is gone: nobody is left who could say more.
    let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
    closing.send_replace(true);
    let at_once = phase.wait_for(|phase| *phase == Phase::Draining { accepting: false });
    let _ = timeout(lame_duck, at_once).await;
    stopping.send_replace(true);
    for accepting in accepting {
        // Its only other end is a panic, which has been told.
        let _ = accepting.await;
    }
    // Once more, for those who came in between.
    closing.send_replace(true);
    let is_anyone_left = || Port::ALL.iter().any(|port| connections.open(*port) > 0);
    let all_gone = async {
        while is_anyone_left() {
            sleep(GONE_POLL).await;
        }
    };
    let _ = timeout(lame_duck, all_gone).await;
}

/// How often it is looked whether the last connection is gone, once.
const GONE_POLL: Duration = Duration::from_millis(10);

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (http, https) = (self.http.address, self.https.address);
        f.debug_struct("Proxy").field("http", &http).field("https", &https).finish_non_exhaustive()
    }
}

/// How much of an answer the kernel keeps that a client has no room for. Left to itself, it keeps
/// megabytes, and a slow client is not seen to take anything for minutes.
const MAX_UNSENT: u32 = 128 << 10;

struct Listening {
    address: SocketAddr,
    listener: tokio::net::TcpListener,
}

impl Listening {
    /// What is set on a listening socket is inherited by those that it accepts, for no call each.
    fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let socket = SockRef::from(&listener);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(MAX_UNSENT)?;
        // A client that vanished without a word is noticed after two minutes. Without this, its
        // WebSocket would keep an app awake until the tunnel's own deadline.
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(15))
            .with_retries(4);
        socket.set_tcp_keepalive(&keepalive)?;
        let address = listener.local_addr()?;
        Ok(Self { address, listener: tokio::net::TcpListener::from_std(listener)? })
    }
}

fn http_proxy(gateway: Gateway, settings: &ProxySettings) -> HttpProxy<Gateway> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let conf = ServerConf {
        threads,
        // Pingora takes it as per thread.
        upstream_keepalive_pool_size: UPSTREAM_POOL.div_ceil(threads),
        max_retries: MAX_TRIES,
        ..ServerConf::default()
    };
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(settings.idle_timeout);
    // It counts those that follow the first.
    options.keepalive_request_limit = Some(settings.max_requests_per_connection - 1);
    let mut proxy = HttpProxy::new(gateway, Arc::new(conf));
    proxy.server_options = Some(options);
    proxy.h2_options = Some(h2_options());
    proxy.handle_init_modules();
    proxy
}

/// What one HTTP/2 connection may make us keep. A client that resets streams faster than they are
/// answered, or sends a header in endless continuations, is sent away by the library's own limits.
fn h2_options() -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(100)
        .max_header_list_size(64 << 10)
        .initial_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .max_send_buffer_size(64 << 10);
    options
}
