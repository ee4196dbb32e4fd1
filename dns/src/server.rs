//! The servers together: started on sockets that somebody else has bound.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;
use weir_config::Snapshots;

use crate::{
    DnsMetrics, Rate, TcpLimits,
    cookies::Cookies,
    counters::Counters,
    notify,
    rate_limit::RateLimit,
    respond::Responder,
    tcp::{self, Connections, Shared},
    transfer::TransferCounters,
    udp,
};

/// How it serves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub tcp: TcpLimits,
    /// `None`: answers over UDP are not limited.
    pub rate: Option<Rate>,
    /// What cookies are made with. Servers that answer at one address have to have the same one;
    /// `None` makes one for this process.
    pub cookie_secret: Option<[u8; 16]>,
    /// What the server calls itself to those that ask (RFC 5001): at most 128 octets.
    pub nsid: Option<Box<[u8]>>,
    /// Whether everything is answered on the slow path, to compare the two.
    pub is_slow: bool,
}

/// So that it fits into the shortest answer.
const MOST_NSID: usize = 128;

/// Answers questions from what is served, until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    threads: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    tcp_is_over: watch::Sender<bool>,
    metrics: DnsMetrics,
}

impl Server {
    /// Starts a thread for each UDP socket, and on the runtime that it is called on a task for each
    /// listener and one that tells secondaries of changes. Sockets that are bound to one address by
    /// `SO_REUSEPORT` share its questions, and so do copies of one.
    ///
    /// # Errors
    /// A socket cannot be readied, the system gives no thread, or the NSID is too long.
    pub fn start(
        snapshots: Snapshots,
        udp: Vec<UdpSocket>,
        tcp: Vec<TcpListener>,
        options: Options,
    ) -> io::Result<Self> {
        if options.nsid.as_ref().is_some_and(|nsid| nsid.len() > MOST_NSID) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an NSID has 128 octets at most",
            ));
        }
        let responder = Arc::new(Responder {
            cookies: Cookies::new(options.cookie_secret.unwrap_or_else(rand::random)),
            nsid: options.nsid,
            rate_limit: options.rate.map(RateLimit::new),
            is_slow: options.is_slow,
        });
        let connections = Arc::new(Connections::new(options.tcp));
        let transfers = Arc::new(TransferCounters::default());
        let (tcp_is_over, is_over) = watch::channel(false);
        let tcp_counters = Arc::new(Counters::default());
        let udp_counters: Vec<_> = udp.iter().map(|_| Arc::new(Counters::default())).collect();
        let mut server = Self {
            threads: Vec::with_capacity(udp.len()),
            is_over: Arc::default(),
            tcp_is_over,
            metrics: DnsMetrics::new(
                snapshots.clone(),
                udp_counters.clone(),
                tcp_counters.clone(),
                connections.clone(),
                transfers.clone(),
            ),
        };
        for (i, (socket, counters)) in udp.into_iter().zip(udp_counters).enumerate() {
            udp::prepare(&socket)?;
            let (snapshots, responder) = (snapshots.clone(), responder.clone());
            let is_over = server.is_over.clone();
            let serve = move || {
                while !is_over.load(Relaxed) {
                    let serve = || udp::serve(&socket, &snapshots, &responder, &counters, &is_over);
                    // A question that makes it panic costs the others of its batch, and no more.
                    if catch_unwind(AssertUnwindSafe(serve)).is_err() {
                        tracing::error!("a thread of the DNS server has panicked, and goes on");
                    }
                }
            };
            let thread = thread::Builder::new().name(format!("weir-dns-{i}")).spawn(serve)?;
            server.threads.push(thread);
        }
        for listener in tcp {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let shared = Shared {
                snapshots: snapshots.clone(),
                responder: responder.clone(),
                counters: tcp_counters.clone(),
                connections: connections.clone(),
                transfers: transfers.clone(),
                is_over: is_over.clone(),
            };
            tokio::spawn(tcp::serve(listener, shared));
        }
        tokio::spawn(notify::run(snapshots, transfers, is_over));
        Ok(server)
    }

    pub fn metrics(&self) -> DnsMetrics {
        self.metrics.clone()
    }

    /// Answers what it has taken from its sockets, and no more. It may take a quarter of a second
    /// until its threads notice; blocks for as long.
    pub fn stop(mut self) {
        self.tell();
        for thread in self.threads.drain(..) {
            // It does not panic.
            let _ = thread.join();
        }
    }

    fn tell(&self) {
        self.is_over.store(true, Relaxed);
        self.tcp_is_over.send_replace(true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Binds sockets to one address for [`Server::start`]: so many for UDP, between which the kernel
/// divides the clients, and one for TCP. With port 0 all of them get the same free one.
///
/// # Errors
/// The address cannot be bound.
pub fn bind(address: SocketAddr, udp: usize) -> io::Result<(Vec<UdpSocket>, TcpListener)> {
    // A port that is free for TCP may be taken for UDP, but seldom is.
    let tcp = socket(address, Type::STREAM, Protocol::TCP)?;
    tcp.set_reuse_address(true)?;
    tcp.bind(&address.into())?;
    tcp.listen(1024)?;
    let tcp = TcpListener::from(tcp);
    let address = SocketAddr::new(address.ip(), tcp.local_addr()?.port());
    let bind = |_| {
        let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        Ok(UdpSocket::from(socket))
    };
    let udp = (0..udp.max(1)).map(bind).collect::<io::Result<_>>()?;
    Ok((udp, tcp))
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // Else it would take the IPv4 address of the same port as well.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
