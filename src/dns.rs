//! The DNS server beside the proxy: its sockets, and its start.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use anyhow::{anyhow, bail};
use tokio::runtime::Handle;
use weir_config::Snapshots;
use weir_dns::{DnsMetrics, Options, Rate, Server};

/// Where questions come in: one for TCP, and for UDP one for each thread.
#[derive(Debug)]
pub(crate) struct DnsSockets {
    tcp: TcpListener,
    udp: Vec<UdpSocket>,
}

impl DnsSockets {
    /// Listens on an address.
    ///
    /// # Errors
    /// A sentence that names the flag and the reason.
    pub(crate) fn bind(address: SocketAddr, threads: usize) -> anyhow::Result<Self> {
        let (udp, tcp) = weir_dns::bind(address, threads).map_err(|error| {
            anyhow!(
                "cannot listen on {address} (--dns): {error}; port 53 needs root or \
                 CAP_NET_BIND_SERVICE, and on many machines a resolver of their own has it: write \
                 the public address of this machine, as 192.0.2.1:53, or stop that"
            )
        })?;
        Ok(Self { tcp, udp })
    }

    /// What was inherited, if it was. Of fewer sockets for UDP than there are threads, as from
    /// systemd, some have several of them.
    ///
    /// # Errors
    /// There is one for UDP and none for TCP, or the other way round: nobody could use that.
    pub(crate) fn inherited(
        tcp: Option<TcpListener>,
        mut udp: Vec<UdpSocket>,
        threads: usize,
    ) -> anyhow::Result<Option<Self>> {
        let tcp = match (tcp, udp.len()) {
            (None, 0) => return Ok(None),
            (Some(tcp), 1..) => tcp,
            (tcp, _) => bail!(
                "of the two inherited sockets `dns`, the one for {} is missing: DNS needs both \
                 ListenStream= and ListenDatagram= in its .socket",
                if tcp.is_some() { "UDP" } else { "TCP" }
            ),
        };
        tcp.set_nonblocking(true)?;
        for i in udp.len()..threads {
            udp.push(udp[i % udp.len()].try_clone()?);
        }
        Ok(Some(Self { tcp, udp }))
    }

    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Copies of them, for another program.
    pub(crate) fn descriptors(&self) -> std::io::Result<Vec<OwnedFd>> {
        let udp = self.udp.iter().map(|socket| socket.try_clone().map(OwnedFd::from));
        std::iter::once(self.tcp.try_clone().map(OwnedFd::from)).chain(udp).collect()
    }

    /// Answers questions from now on, on `runtime` and on threads of its own.
    ///
    /// # Errors
    /// A socket cannot be readied, or the system gives no thread.
    pub(crate) fn serve(&self, snapshots: Snapshots, runtime: &Handle) -> anyhow::Result<Dns> {
        let _inside = runtime.enter();
        let udp = self.udp.iter().map(UdpSocket::try_clone).collect::<Result<_, _>>()?;
        let options = Options { rate: Some(Rate::default()), ..Options::default() };
        let server = Server::start(snapshots, udp, vec![self.tcp.try_clone()?], options)?;
        Ok(Dns(server))
    }
}

/// Answers questions until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Dns(Server);

impl Dns {
    pub(crate) fn metrics(&self) -> DnsMetrics {
        self.0.metrics()
    }

    /// Leaves the questions that come from now on to another process.
    pub(crate) async fn stop(self) {
        // It waits for its threads.
        if let Err(error) = tokio::task::spawn_blocking(|| self.0.stop()).await {
            tracing::error!(%error, "the DNS server");
        }
    }
}
