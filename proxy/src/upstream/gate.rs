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
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// The header's and the body's.
const FLUSHES_OF_A_REQUEST: u8 = 2;

/// Lets bytes of the instance through or not. Open at first, for the handshake of TLS.
#[derive(Debug)]
pub(crate) struct Gate {
    flushes_to_come: AtomicU8,
    /// Whether the clock of the answer is to be started.
    starts: AtomicBool,
    /// How long the instance may take to answer once the request is on its way.
    answer_within: Duration,
}

impl Gate {
    pub(super) fn new(answer_within: Duration) -> Self {
        let (flushes_to_come, starts) = (AtomicU8::new(0), AtomicBool::new(false));
        Self { flushes_to_come, starts, answer_within }
    }

    /// To be called when the connection is made and nothing of the request is written.
    pub(crate) fn close(&self) {
        self.flushes_to_come.store(FLUSHES_OF_A_REQUEST, SeqCst);
        self.starts.store(true, SeqCst);
    }

    fn is_open(&self) -> bool {
        self.flushes_to_come.load(SeqCst) == 0
    }

    fn count_flush(&self) {
        // It is zero already for all but two.
        let _ = self.flushes_to_come.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
    }
}

/// Reads nothing while its gate is closed.
#[derive(Debug)]
pub(super) struct Gated {
    tcp: TcpStream,
    gate: Arc<Gate>,
    reader: Option<Waker>,
    /// Until the first byte of the answer.
    unanswered: Option<Pin<Box<Sleep>>>,
}

impl Gated {
    pub(super) fn new(tcp: TcpStream, gate: Arc<Gate>) -> Self {
        Self { tcp, gate, reader: None, unanswered: None }
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.gate.starts.swap(false, SeqCst) {
            this.unanswered = Some(Box::pin(sleep(this.gate.answer_within)));
        }
        if !this.gate.is_open() {
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

impl AsyncWrite for Gated {
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
        this.gate.count_flush();
        if let Some(reader) = this.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

impl VirtualSocket for Gated {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.tcp.set_nodelay(true),
            _ => Ok(()),
        }
    }
}
