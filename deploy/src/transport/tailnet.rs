//! A Tailscale inside this process: needs no privileges, no routes and no daemon.
//!
//! The crate is young, as it says of itself: its traffic goes through relays unless both sides
//! find a direct way, and nobody has audited it. What goes through here is TLS of our own, so it
//! is trusted with nothing but to carry bytes. Where `tailscaled` runs, that is the better way.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use tailscale::{Config, Device, netstack::TcpListener};
use tokio::{sync::OnceCell, time::timeout};

use super::{Arrivals, Arrived, Duplex, TailnetOptions, Transport};

/// To be let in takes a few questions to a server that may be far away.
const JOIN: Duration = Duration::from_secs(60);
/// Beyond what TCP needs there are the handshake of the tunnel and the way through a relay.
const CONNECT: Duration = Duration::from_secs(15);

/// A place in a tailnet. Cheap to clone; it is left when the last one is dropped.
#[derive(Clone)]
pub(super) struct Tailnet(Arc<Device>);

/// Takes connections from a tailnet, which is joined when the first one is waited for: whoever
/// serves other ways as well does not wait for this one.
pub(super) struct TailnetArrivals {
    options: TailnetOptions,
    port: u16,
    joined: OnceCell<(Tailnet, TcpListener)>,
}

impl Tailnet {
    /// Joins a tailnet, or comes back to it.
    ///
    /// # Errors
    /// It does not let us in, or cannot be reached in time.
    pub(super) async fn join(options: &TailnetOptions) -> io::Result<Self> {
        let key_state = tailscale::config::load_key_file(&options.key_file, Default::default());
        let key_state = key_state.await.map_err(other)?;
        private(&options.key_file).await?;
        let mut config = Config {
            key_state,
            client_name: Some("weir".to_owned()),
            requested_hostname: Some(options.hostname.clone()),
            ..Config::default()
        };
        if let Some(url) = &options.control_url {
            config.control_server_url = url.parse().map_err(io::Error::other)?;
        }
        let joined = async {
            let device = Device::new(&config, options.auth_key.clone()).await.map_err(other)?;
            device.ipv4_addr().await.map_err(other)?;
            Ok::<_, io::Error>(device)
        };
        let late = "the tailnet does not let this device in; is the auth key valid?";
        let device = timeout(JOIN, joined)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, late))??;
        Ok(Self(Arc::new(device)))
    }

    /// The address of `HOST:PORT`, of which the host is an address or another device's name.
    async fn resolve(&self, to: &str) -> io::Result<SocketAddr> {
        if let Ok(address) = to.parse() {
            return Ok(address);
        }
        let (host, port) = to.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port = port.parse().map_err(io::Error::other)?;
        let peer = self.0.peer_by_name(host).await.map_err(other)?;
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("no `{host}` in the tailnet"));
        let address = peer.ok_or_else(missing)?.tailnet_address.ipv4.addr();
        Ok(SocketAddr::new(address.into(), port))
    }
}

#[async_trait]
impl Transport for Tailnet {
    async fn connect(&self, control: &str) -> io::Result<Box<dyn Duplex>> {
        let to = self.resolve(control).await?;
        let stream = timeout(CONNECT, self.0.tcp_connect(to)).await?.map_err(other)?;
        Ok(Box::new(stream))
    }
}

impl TailnetArrivals {
    /// At a port of the address that we will have there.
    pub(super) fn new(options: TailnetOptions, port: u16) -> Self {
        Self { options, port, joined: OnceCell::new() }
    }

    async fn join(&self) -> io::Result<(Tailnet, TcpListener)> {
        let tailnet = Tailnet::join(&self.options).await?;
        let address = tailnet.0.ipv4_addr().await.map_err(other)?;
        let listener = tailnet.0.tcp_listen((address, self.port).into()).await.map_err(other)?;
        tracing::info!(%address, port = self.port, "devices may come by the tailnet");
        Ok((tailnet, listener))
    }
}

#[async_trait]
impl Arrivals for TailnetArrivals {
    async fn accept(&self) -> io::Result<Arrived> {
        let (tailnet, listener) = self.joined.get_or_try_init(|| self.join()).await?;
        let stream = listener.accept().await.map_err(other)?;
        let from = stream.remote_addr();
        // An address is a node's own: its tunnel is keyed by that node's key.
        let peer = tailnet.0.peer_by_tailnet_ip(from.ip()).await.map_err(other)?;
        let peer = peer.ok_or_else(|| other(format_args!("nobody has the address {from}")))?;
        Ok(Arrived { stream: Box::new(stream), from, node: Some(peer.stable_id.0) })
    }
}

/// The keys are what this device is in the tailnet.
async fn private(file: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    tokio::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).await
}

fn other(error: impl fmt::Display) -> io::Error {
    io::Error::other(format!("the tailnet: {error}"))
}

impl fmt::Debug for Tailnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tailnet")
    }
}

impl fmt::Debug for TailnetArrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TailnetArrivals").field("options", &self.options).finish_non_exhaustive()
    }
}
