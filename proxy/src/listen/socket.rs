//! A TCP connection that is closed so that its last answer arrives.

use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    time::timeout,
};

use crate::connection::Connection;

/// Under TLS or alone. Closed like any socket, unless it is told to linger.
#[derive(Debug)]
pub(super) struct Socket {
    /// Taken when this is dropped.
    tcp: Option<TcpStream>,
    lingers_for: Option<Arc<Connection>>,
}

/// How long it is waited for a client to take its last answer.
const LINGER: Duration = Duration::from_secs(2);

impl Socket {
    /// For a client that may be sending still. The kernel answers what nobody reads with a reset,
    /// at which the client would forget an answer that it has not read yet: a 413 to an upload, say.
    /// So its bytes are read and thrown away until it has closed its end, or time is up. The
    /// connection counts as open for as long.
    pub(super) fn linger(&mut self, connection: Arc<Connection>) {
        self.lingers_for = Some(connection);
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.tcp.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self { tcp: Some(tcp), lingers_for: None }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let (Some(tcp), Some(connection)) = (self.tcp.take(), self.lingers_for.take()) {
            close_kindly(tcp, connection);
        }
    }
}

/// Closes our end of a stream, and the rest when the other side has closed its own or time is up.
pub(super) fn close_kindly(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Arc<Connection>,
) {
    // Without a runtime, everything ends.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            let _ = timeout(LINGER, discard(stream)).await;
            drop(connection);
        });
    }
}

async fn discard(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.tcp()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }
}
