//! The bytes of one client's connection, with a limit on every wait for them.
//!
//! Pingora's own stream cannot be used: without its listeners it is unbuffered, so that the head
//! and the body of an answer leave in a packet each (its `set_buffer` is private), its look at the
//! first bytes waits for 24 of them, which a request of HTTP/1.0 may not have, and its timeouts
//! begin anew with every byte, or never. Here, a wait costs nothing unless there is one, and then
//! one timer for the connection serves all of them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType, raw_connect::ProxyDigest, tls::SslDigest,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Instant,
};
use weir_config::ProxySettings;

use super::{connections::Dropped, transport::Transport, unsent::Unsent};
use crate::{
    connection::{self, Connection, State},
    request_limits::MIN_BYTES_PER_SECOND,
    timer::Timer,
};

/// What is written is kept until it is flushed or comes to this: one record of TLS, and so one
/// packet's worth of system calls. It is not allocated before it is needed.
const BUFFER: usize = 16 << 10;

/// The first bytes of HTTP/2 (RFC 9113, 3.4), which cannot be those of an HTTP/1 request.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// With the settings that must follow the preface, empty ones at least.
const H2_BEGUN: usize = PREFACE.len() + 9;

/// The most bytes of a request's header over HTTP/1, as over HTTP/2. Pingora would keep 1 MiB.
const MAX_HEADER: usize = 64 << 10;

const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

#[derive(Debug)]
pub(super) struct ClientStream {
    transport: Transport,
    connection: Arc<Connection>,
    limits: Limits,
    http2: bool,
    /// Bytes read so far, as long as that is of interest: of the preface of HTTP/2, or of the
    /// present header of HTTP/1.
    heard: usize,
    ahead: Ahead,
    /// A request's header has not come in time, or is too large.
    expired: bool,
    unsent: Unsent,
    stalled: Option<Stall>,
    timer: Timer,
    tls: Option<Arc<SslDigest>>,
    socket: Arc<SocketDigest>,
    proxy: Arc<ProxyDigest>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    header: Duration,
    idle: Duration,
    write: Duration,
}

/// A client that does not take what is written to it.
#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Instant,
    taken: usize,
}

/// What was looked at and not taken.
#[derive(Debug, Default)]
struct Ahead {
    bytes: [u8; PREFACE.len()],
    length: usize,
    given: usize,
}

impl ClientStream {
    pub(super) fn new(
        transport: Transport,
        connection: Arc<Connection>,
        settings: &ProxySettings,
    ) -> pingora::Result<Self> {
        let socket = SocketDigest::from_raw_fd(transport.fd());
        // Set once, so that nobody asks the kernel. It cannot be set already.
        let _ = socket.peer_addr.set(Some(connection.client.into()));
        let _ = socket.local_addr.set(Some(connection.local.into()));
        let tls = connection
            .tls
            .as_ref()
            .map(|tls| Arc::new(SslDigest::new(tls.cipher, tls.version, None, None, Vec::new())));
        Ok(Self {
            http2: transport.is_http2(),
            transport,
            limits: Limits {
                header: settings.header_timeout,
                idle: settings.idle_timeout,
                write: settings.write_timeout,
            },
            heard: 0,
            ahead: Ahead::default(),
            expired: false,
            unsent: Unsent::default(),
            stalled: None,
            timer: Timer::default(),
            tls,
            socket: Arc::new(socket),
            proxy: Arc::new(connection::digest(connection.clone())?),
            connection,
        })
    }

    fn hear(&mut self, bytes: usize) {
        if !self.http2 {
            // What comes first or after an answer begins a header.
            let begun = if self.connection.is_silent() { 0 } else { self.heard };
            self.heard = begun.saturating_add(bytes);
        }
        self.connection.heard();
        if self.http2 && self.heard < H2_BEGUN {
            self.heard += bytes;
            if self.heard >= H2_BEGUN {
                // From here on, Pingora's own idle timeout for HTTP/2 applies.
                self.connection.multiplexes();
            }
        }
    }

    /// Ready when the client has kept us waiting for too long. Nothing to read then stands for the
    /// end of the connection; a client in the middle of a header is told why.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.connection.state();
        let limit = match state {
            State::Fresh | State::Head => Some(self.limits.header),
            State::Idle => Some(self.limits.idle),
            State::Multiplexed => None,
            State::Busy => return self.poll_linger(cx),
        };
        let due = limit.map(|limit| self.connection.since() + limit);
        loop {
            let look = self.unsent.look_at();
            let Some(next) = due.into_iter().chain(look).min() else { return Poll::Pending };
            ready!(self.timer.poll_until(cx, next));
            if due == Some(next) {
                break;
            }
            self.unsent.look();
        }
        if state == State::Idle {
            return Poll::Ready(Ok(()));
        }
        // A browser that opened a connection in advance would show an answer that nobody asked for.
        let is_told = state == State::Head && !self.http2;
        self.give_up(Dropped::HeaderTimeout, if is_told { TOO_SLOW } else { &[] });
        Poll::Ready(if is_told { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) })
    }

    /// Sends what has waited long enough for more. Pingora flushes an answer whose length is known
    /// at its end only, however long the rest of it takes to come. Ready with an error if it cannot
    /// be sent.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(due) = self.unsent.due() else { return Poll::Pending };
        ready!(self.timer.poll_until(cx, due));
        match ready!(Pin::new(self).poll_flush(cx)) {
            Ok(()) => Poll::Pending,
            error => Poll::Ready(error),
        }
    }

    fn header_is_too_large(&self) -> bool {
        !self.http2 && self.heard >= MAX_HEADER && self.connection.state() == State::Head
    }

    /// Counts the end of the connection and says why, once.
    fn give_up(&mut self, reason: Dropped, answer: &[u8]) {
        if !self.expired {
            self.expired = true;
            self.connection.open.count(reason);
            self.connection.says(answer);
            self.unsent.push(answer);
        }
    }

    /// Ready with an error when the client has taken too little for too long.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let Stall { since, taken } =
                *self.stalled.get_or_insert_with(|| Stall { since: Instant::now(), taken: 0 });
            ready!(self.timer.poll_until(cx, since + self.limits.write));
            if (taken as f64) < MIN_BYTES_PER_SECOND * self.limits.write.as_secs_f64() {
                self.connection.open.count(Dropped::WriteTimeout);
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.stalled = None;
        }
    }

    /// Writes what is kept and `more` in one go; returns how much of both was taken.
    fn poll_send(&mut self, cx: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        let sent = match (self.unsent.is_empty(), more.is_empty()) {
            (true, _) => self.transport.poll_write(cx, more),
            (_, true) => self.transport.poll_write(cx, &self.unsent),
            _ => {
                let both = [IoSlice::new(&self.unsent), IoSlice::new(more)];
                self.transport.poll_write_vectored(cx, &both)
            }
        };
        match sent {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(taken)) => {
                if let Some(stall) = &mut self.stalled {
                    stall.taken += taken;
                }
                Poll::Ready(Ok(taken))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => self.poll_stall(cx).map(Err),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.http2 && this.connection.is_abused() {
            return Poll::Ready(Ok(()));
        }
        if this.header_is_too_large() {
            this.give_up(Dropped::HeaderTooLarge, TOO_LARGE);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let given = this.ahead.give(buffer);
        let before = buffer.filled().len();
        let polled = this.transport.poll_read(cx, buffer);
        let came = buffer.filled().len() - before;
        if came > 0 {
            this.hear(came);
        }
        if given + came > 0 {
            // An error shows itself the next time.
            return Poll::Ready(Ok(()));
        }
        match polled {
            Poll::Pending => this.poll_patience(cx),
            ready => ready,
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.connection.says(bytes);
        loop {
            if this.unsent.len() + bytes.len() <= BUFFER {
                this.unsent.push(bytes);
                return Poll::Ready(Ok(bytes.len()));
            }
            let taken = ready!(this.poll_send(cx, bytes))?;
            let kept = this.unsent.len();
            this.unsent.sent(taken.min(kept));
            if taken > kept {
                if taken - kept == bytes.len() {
                    this.stalled = None;
                }
                return Poll::Ready(Ok(taken - kept));
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.unsent.len() + total <= BUFFER {
            let this = self.get_mut();
            slices.iter().for_each(|slice| this.unsent.push(slice));
            return Poll::Ready(Ok(total));
        }
        // The small ones are kept, and leave together with the first that is not.
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(cx, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.unsent.is_empty() {
            let taken = ready!(this.poll_send(cx, &[]))?;
            this.unsent.sent(taken);
        }
        match this.transport.poll_flush(cx) {
            Poll::Pending => this.poll_stall(cx).map(Err),
            flushed => {
                this.stalled = None;
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        let this = self.get_mut();
        match this.transport.poll_shutdown(cx) {
            // The last word of TLS finds no room.
            Poll::Pending => this.poll_stall(cx).map(Err),
            closed => closed,
        }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.transport.linger(&self.connection, !self.connection.is_silent());
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // A client that is gone has nothing to be told.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

#[async_trait]
impl Peek for ClientStream {
    /// Looks for the preface of HTTP/2, no further than it takes to tell it from HTTP/1.
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut length = 0;
        while length < buffer.len().min(PREFACE.len()) {
            match self.read(&mut buffer[length..]).await {
                Ok(0) | Err(_) if length == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                // What has come is a request of HTTP/1, if it is anything.
                Ok(0) | Err(_) => break,
                Ok(came) => length += came,
            }
            if buffer[..length] != PREFACE[..length] {
                break;
            }
        }
        self.http2 = length == PREFACE.len() && buffer == PREFACE;
        self.heard = length;
        self.ahead = Ahead::of(&buffer[..length]);
        Ok(true)
    }
}

impl Ahead {
    fn of(bytes: &[u8]) -> Self {
        let mut ahead = Self { length: bytes.len(), ..Self::default() };
        ahead.bytes[..bytes.len()].copy_from_slice(bytes);
        ahead
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        let given = buffer.remaining().min(self.length - self.given);
        buffer.put_slice(&self.bytes[self.given..self.given + given]);
        self.given += given;
        given
    }
}

impl Ssl for ClientStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.http2.then_some(ALPN::H2)
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.proxy.clone())
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}

impl GetTimingDigest for ClientStream {
    /// Nobody asks, and it is collected for each request.
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.transport.fd()
    }
}
