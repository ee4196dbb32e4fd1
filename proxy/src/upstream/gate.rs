//! A way around a race in Pingora that cuts WebSockets (its issue 946, open in 0.9.1).
//!
//! A request to upgrade has an empty body. If the instance's 101 is read before the end of that
//! body has passed through Pingora's inner pipe, Pingora takes the end of the body for the end of
//! the tunnel, and closes it. Fast instances, so those on the same host, do that often. Here, no
//! answer can be read before the request is finished, which Pingora marks by flushing the
//! connection twice: after the header, and after the body.
//!
//! Also, Pingora has one bound for all the silence of an instance: of a handshake and of the tunnel
//! after it; and over HTTP/2 its clock runs while the request is on its way still, so that it cuts
//! uploads. The bound of such requests is kept here, on a connection that carries nothing else.
//!
//! To be deleted with the first Pingora that does not need it; the tests of tunnels and uploads stay.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::line::Line;
use crate::timer::Timer;

/// The header's and the body's.
const FLUSHES_OF_A_REQUEST: u8 = 2;

/// Lets bytes of the instance through or not, and bounds its silence. Open and patient at first, for
/// the handshake of TLS.
#[derive(Debug)]
pub(crate) struct Gate {
    kind: Gated,
    flushes_to_come: AtomicU8,
    /// How long nothing may go either way while the instance is waited for.
    silence: Duration,
    is_bound: AtomicBool,
    /// Whether the silence was too long.
    expired: AtomicBool,
}

/// What goes through a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gated {
    Upgrade,
    /// Over HTTP/2.
    Upload,
}

impl Gate {
    pub(super) fn new(kind: Gated, silence: Duration) -> Self {
        let [is_bound, expired] = [AtomicBool::new(false), AtomicBool::new(false)];
        Self { kind, flushes_to_come: AtomicU8::new(0), silence, is_bound, expired }
    }

    /// To be called when the connection is made and nothing of the request is written.
    pub(crate) fn begin(&self) {
        if self.kind == Gated::Upgrade {
            self.flushes_to_come.store(FLUSHES_OF_A_REQUEST, SeqCst);
        }
        self.is_bound.store(true, SeqCst);
    }

    /// To be called when the protocol is switched: a tunnel may be silent for longer.
    pub(crate) fn tunnels(&self) {
        self.is_bound.store(false, SeqCst);
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.expired.load(SeqCst)
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
pub(super) struct GatedStream {
    line: Line,
    gate: Arc<Gate>,
    reader: Option<Waker>,
    /// Since when nothing has gone either way and somebody waits to read.
    silent_since: Option<Instant>,
    timer: Timer,
}

impl GatedStream {
    pub(super) fn new(line: Line, gate: Arc<Gate>) -> Self {
        Self { line, gate, reader: None, silent_since: None, timer: Timer::default() }
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.gate.is_open() {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let read = Pin::new(&mut this.line).poll_read(cx, buffer);
        if read.is_ready() {
            this.silent_since = None;
        } else if this.gate.is_bound.load(SeqCst) {
            let since = *this.silent_since.get_or_insert_with(Instant::now);
            ready!(this.timer.poll_until(cx, since + this.gate.silence));
            this.gate.expired.store(true, SeqCst);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.line).poll_write(cx, bytes);
        if written.is_ready() {
            this.silent_since = this.silent_since.map(|_| Instant::now());
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.gate.count_flush();
        if let Some(reader) = this.reader.take() {
            reader.wake();
        }
        Pin::new(&mut this.line).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().line).poll_shutdown(cx)
    }
}

impl VirtualSocket for GatedStream {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        self.line.set_socket_option(option)
    }
}
