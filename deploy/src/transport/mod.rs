//! How bytes get from a device to control. Who is who is proved by TLS on top, whichever it is.
//!
//! There are three ways: a private network as it is, which needs nothing; a Tailscale that the
//! device's system runs already (`tailscaled`), whose routes are used like any other; and a
//! Tailscale of our own inside the process (the feature `tailnet`), where the system has none.

#[cfg(feature = "tailnet")]
mod tailnet;

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    time::timeout,
};

#[cfg(feature = "tailnet")]
use self::tailnet::{Tailnet, TailnetArrivals};

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A line that is cut off says nothing, and the kernel would wait minutes.
const CONNECT: Duration = Duration::from_secs(3);

/// What carries a device's connection to control.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Connects to control at `HOST:PORT`.
    async fn connect(&self, control: &str) -> io::Result<Box<dyn Duplex>>;
}

/// Where devices come in, and from where.
#[async_trait]
pub trait Arrivals: fmt::Debug + Send + Sync + 'static {
    /// Waits for the next one.
    async fn accept(&self) -> io::Result<Arrived>;
}

/// Somebody who has come in.
pub struct Arrived {
    pub stream: Box<dyn Duplex>,
    pub from: SocketAddr,
    /// Which node of a tailnet it is, as that has proved; `None` if it came by no tailnet of ours.
    pub node: Option<String>,
}

impl fmt::Debug for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, node, .. } = self;
        f.debug_struct("Arrived").field("from", from).field("node", node).finish_non_exhaustive()
    }
}

/// The network as the system has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network;

#[async_trait]
impl Transport for Network {
    async fn connect(&self, control: &str) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(connect(control).await?))
    }
}

#[async_trait]
impl Arrivals for TcpListener {
    async fn accept(&self) -> io::Result<Arrived> {
        let (stream, from) = Self::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok(Arrived { stream: Box::new(stream), from, node: None })
    }
}

/// How to get into a tailnet.
#[derive(Clone)]
pub struct TailnetOptions {
    /// The name to have there.
    pub hostname: String,
    /// What lets in a device that is not known there yet.
    pub auth_key: Option<String>,
    /// The server that runs the tailnet; `None` for Tailscale's own.
    pub control_url: Option<String>,
    /// Where the keys of this device are kept: with them it stays the same one.
    pub key_file: PathBuf,
}

impl TailnetOptions {
    /// Joins the tailnet, to connect to others there.
    ///
    /// # Errors
    /// It does not let us in, or this program was built without a Tailscale of its own.
    pub async fn transport(&self) -> io::Result<Arc<dyn Transport>> {
        #[cfg(feature = "tailnet")]
        return Ok(Arc::new(Tailnet::join(self).await?));
        #[cfg(not(feature = "tailnet"))]
        return Err(no_tailnet());
    }

    /// Takes connections at a port of the address that we will have in the tailnet.
    ///
    /// # Errors
    /// This program was built without a Tailscale of its own.
    pub fn arrivals(self, port: u16) -> io::Result<Box<dyn Arrivals>> {
        #[cfg(feature = "tailnet")]
        return Ok(Box::new(TailnetArrivals::new(self, port)));
        #[cfg(not(feature = "tailnet"))]
        {
            let _ = port;
            Err(no_tailnet())
        }
    }
}

#[cfg(not(feature = "tailnet"))]
fn no_tailnet() -> io::Error {
    let why = "this program was built without a Tailscale of its own (the feature `tailnet`); run \
               tailscaled instead, and reach the other side by its address";
    io::Error::new(io::ErrorKind::Unsupported, why)
}

impl fmt::Debug for TailnetOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hostname, control_url, key_file, .. } = self;
        f.debug_struct("TailnetOptions")
            .field("hostname", hostname)
            .field("control_url", control_url)
            .field("key_file", key_file)
            .finish_non_exhaustive()
    }
}

/// Connects by TCP, in a bounded time.
pub(crate) async fn connect(to: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
