//! The two listeners, and the service that Pingora runs on them.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    os::fd::IntoRawFd,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use pingora::{
    apps::HttpServerOptions,
    listeners::{L4BufferSettings, ListenerConfig, TcpSocketOptions, tls::TlsSettings},
    protocols::TcpKeepalive,
    proxy::{HttpProxy, ProxyServiceBuilder},
    server::{Fds, configuration::ServerConf},
    services::{Service as _, listening::Service},
};
use tokio::sync::watch;
use weir_config::{Activity, Observe, Snapshots};

use crate::{
    access_log::AccessLog,
    gateway::Gateway,
    metrics::{ProxyMetrics, Unrouted},
    tls::{Certificates, RememberServerName},
    upstream::Roots,
};

/// The data plane, ready to serve.
pub struct Proxy {
    snapshots: Snapshots,
    certificates: Arc<Certificates>,
    unrouted: Arc<Unrouted>,
    access_log: Option<AccessLog>,
    service: Service<HttpProxy<Gateway>>,
    http: Listening,
    https: Listening,
    stopping: watch::Sender<bool>,
}

/// What a proxy is told about the world outside.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// The port that clients reach HTTPS at; redirects name it unless it is 443.
    pub https_port_public: u16,
    /// Where each request is logged, if it is.
    pub access_log: Option<AccessLog>,
    /// A request that waits longer than this for its answer has its timeline logged.
    pub slow_request: Duration,
}

/// A proxy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("a listening socket cannot be used: {0}")]
    Socket(#[from] std::io::Error),
    #[error("the TLS listener cannot be set up: {0}")]
    Tls(String),
}

/// An idle connection of a client is closed after so long, HTTP/1.1 and HTTP/2 alike.
pub(crate) const CLIENT_IDLE: Duration = Duration::from_secs(60);

/// Between a client and us. Pingora's own 64 KiB for reading is memory that thousands of idle
/// connections keep for nothing: a TLS record is at most 16 KiB.
const BUFFERS: L4BufferSettings = L4BufferSettings { read: Some(16 << 10), write: Some(4 << 10) };

/// A client that vanished without a word is noticed after two minutes. Without this, its WebSocket
/// would keep an app awake until the tunnel's own deadline.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(15),
    count: 4,
    user_timeout: Duration::ZERO,
};

/// Connections to instances that wait for their next request, over all apps. They live for seconds
/// only, so this bounds file descriptors in a burst and is not reached in between.
const UPSTREAM_POOL: usize = 4096;

/// How often Pingora may begin anew with one request, of whatever cause. We bound connecting by a
/// tighter rule of our own; this bounds it together with pooled connections found closed.
const MAX_TRIES: usize = 8;

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
        let certificates = Arc::new(Certificates::new(&snapshots.current().certificates));
        let unrouted = Arc::new(Unrouted::default());
        let (stopping, stops) = watch::channel(false);
        let gateway = Gateway {
            snapshots: snapshots.clone(),
            observer,
            certificates: certificates.clone(),
            unrouted: unrouted.clone(),
            roots: Roots::default(),
            https_port_public: options.https_port_public,
            stopping: stops,
            access_log: options.access_log.clone(),
            slow_request: options.slow_request,
        };
        let (http, https) = (Listening::new(http)?, Listening::new(https)?);
        let mut service = service(gateway);
        service.add_listener(http.config());
        service.add_listener(https.config().tls(tls_settings(certificates.clone())?));
        let access_log = options.access_log;
        Ok(Self { snapshots, certificates, unrouted, access_log, service, http, https, stopping })
    }

    /// Reads this proxy's metrics whenever it is asked to, out of the counters that requests write.
    pub fn metrics(&self, activity: Arc<Activity>) -> ProxyMetrics {
        let (snapshots, unrouted) = (self.snapshots.clone(), self.unrouted.clone());
        ProxyMetrics::new(snapshots, activity, unrouted, self.access_log.clone())
    }

    /// Serves until `shutdown` turns true, and returns once the listeners are closed. Requests in
    /// flight go on, on the runtime that this ran on; idle connections are closed, and requests
    /// that wait for an app to wake are turned away with 503.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let Self { snapshots, certificates, mut service, http, https, stopping, .. } = self;
        if *shutdown.borrow() {
            return;
        }
        // Pingora looks for its sockets in this table, as it would after an upgrade of the binary,
        // and binds nothing itself: its own binding retries for 30 seconds and then panics.
        let mut sockets = Fds::new();
        for listening in [http, https] {
            sockets.add(listening.address.to_string(), listening.listener.into_raw_fd());
        }
        tokio::select! {
            () = service.start_service(Some(Arc::new(Mutex::new(sockets))), shutdown, 1) => {}
            () = certificates.follow(&snapshots) => {}
        }
        stopping.send_replace(true);
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (http, https) = (self.http.address, self.https.address);
        f.debug_struct("Proxy").field("http", &http).field("https", &https).finish_non_exhaustive()
    }
}

/// A bound listener with the name that Pingora knows it by.
struct Listening {
    address: SocketAddr,
    listener: TcpListener,
}

impl Listening {
    fn new(listener: TcpListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    fn config(&self) -> ListenerConfig {
        let mut options = TcpSocketOptions::default();
        options.tcp_keepalive = Some(KEEPALIVE);
        ListenerConfig::tcp(self.address.to_string()).tcp_socket_options(options).l4_buffer(BUFFERS)
    }
}

fn service(gateway: Gateway) -> Service<HttpProxy<Gateway>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let conf = ServerConf {
        threads,
        // Pingora takes it as per thread.
        upstream_keepalive_pool_size: UPSTREAM_POOL.div_ceil(threads),
        max_retries: MAX_TRIES,
        ..ServerConf::default()
    };
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(CLIENT_IDLE);
    ProxyServiceBuilder::new(&Arc::new(conf), gateway)
        .name("weir-proxy")
        .server_options(options)
        .build()
}

fn tls_settings(certificates: Arc<Certificates>) -> Result<TlsSettings, ProxyError> {
    let mut settings = TlsSettings::with_callbacks(Box::new(RememberServerName))
        .map_err(|error| ProxyError::Tls(error.to_string()))?;
    settings.set_cert_resolver(certificates);
    settings.enable_h2();
    Ok(settings)
}
