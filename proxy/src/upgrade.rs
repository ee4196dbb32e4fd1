//! A way around a race in Pingora that cuts WebSockets (its issue 946, open in 0.9.1).
//!
//! A request to upgrade has an empty body. If the instance's 101 is read before the end of that
//! body has passed through Pingora's inner pipe, Pingora takes the end of the body for the end of
//! the tunnel, and closes it. Fast instances, so those on the same host, do that often. Here, no
//! answer can be read before the request is finished, which Pingora marks by flushing the
//! connection twice: after the header, and after the body.
//!
//! Also, Pingora has one bound for the silence of a handshake and of the tunnel after it. The
//! handshake's is kept here.
//!
//! To be deleted with the first Pingora that does not need it; the tests of tunnels stay.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, Result,
    connectors::l4::Connect,
    protocols::l4::{
        ext,
        socket::SocketAddr,
        stream::Stream,
        virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Makes connections for requests to upgrade that have no body.
#[derive(Debug)]
pub(crate) struct ConnectForUpgrade {
    /// How long the instance may take to answer the handshake.
    pub(crate) handshake: Duration,
}

#[async_trait]
impl Connect for ConnectForUpgrade {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "not an IP address");
        };
        let tcp = ext::connect(address, None).await?;
        let socket = AnswersAfterRequest {
            tcp,
            flushes: 0,
            reader: None,
            unanswered: Some(Box::pin(sleep(self.handshake))),
        };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

/// Reads nothing until the request has been flushed to its end.
#[derive(Debug)]
struct AnswersAfterRequest {
    tcp: TcpStream,
    flushes: u8,
    reader: Option<Waker>,
    /// Until the first byte of the answer.
    unanswered: Option<Pin<Box<Sleep>>>,
}

/// The header's and the body's.
const FLUSHES_OF_A_REQUEST: u8 = 2;

impl AsyncRead for AnswersAfterRequest {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.flushes < FLUSHES_OF_A_REQUEST {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let read = Pin::new(&mut this.tcp).poll_read(cx, buffer);
        if read.is_ready() {
            this.unanswered = None;
        } else if let Some(too_long) = &mut this.unanswered
            && too_long.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for AnswersAfterRequest {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // There is nothing to do for TCP.
        let this = self.get_mut();
        this.flushes = this.flushes.saturating_add(1);
        if let Some(reader) = this.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

impl VirtualSocket for AnswersAfterRequest {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.tcp.set_nodelay(true),
            _ => Ok(()),
        }
    }
}
