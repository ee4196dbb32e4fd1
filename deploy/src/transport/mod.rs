//! How bytes get from a device to control. Who is who is proved by TLS on top, whichever it is.
//!
//! There are three ways: a private network as it is, which needs nothing; a Tailscale that the
//! device's system runs already (`tailscaled`), whose routes are used like any other; and a
//! Tailscale of our own inside the process (the feature `tailnet`), where the system has none.

#[cfg(feature = "tailnet")]
mod tailnet;

use std::{fmt, io, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    time::timeout,
};

#[cfg(feature = "tailnet")]
pub use tailnet::{Tailnet, TailnetArrivals, TailnetOptions};

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
    async fn accept(&self) -> io::Result<(Box<dyn Duplex>, SocketAddr)>;
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
    async fn accept(&self) -> io::Result<(Box<dyn Duplex>, SocketAddr)> {
        let (stream, from) = Self::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), from))
    }
}

/// Connects by TCP, in a bounded time.
pub(crate) async fn connect(to: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
