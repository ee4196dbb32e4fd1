//! TCP, TLS over it, or a stream that somebody else carries.

use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::socket::{Socket, close_kindly};
use crate::{connection::Connection, upstream::Tunnel};

#[derive(Debug)]
pub(super) enum Transport {
    Tcp(Socket),
    Tls(Box<TlsStream<Socket>>),
    Tunnel(Tunnel),
}

impl Transport {
    /// Of a stream that somebody else carries, none.
    pub(super) fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(tcp) => tcp.as_raw_fd(),
            Self::Tls(tls) => tls.get_ref().0.as_raw_fd(),
            Self::Tunnel(_) => -1,
        }
    }

    /// Sees to it that the last answer arrives, once this is dropped. `is_heard` says whether the
    /// client may be sending still.
    pub(super) fn linger(&mut self, connection: &Arc<Connection>, is_heard: bool) {
        match self {
            Self::Tcp(tcp) if is_heard => tcp.linger(connection.clone()),
            Self::Tls(tls) if is_heard => tls.get_mut().0.linger(connection.clone()),
            Self::Tcp(_) | Self::Tls(_) => {}
            // A stream that is dropped is reset, and what is on its way in it is lost; no kernel
            // keeps it.
            Self::Tunnel(tunnel) => {
                let tunnel = std::mem::replace(tunnel, Tunnel::new(tokio::io::empty()));
                close_kindly(tunnel, connection.clone());
            }
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Tunnel(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_read(cx, buffer),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write(cx, bytes),
        }
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write_vectored(cx, slices),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_flush(cx),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
        }
    }
}
