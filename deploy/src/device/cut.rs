//! A connection that can be cut, whatever is under way on it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

use crate::transport::Duplex;

/// Breaks when it is told to, or when nobody is left who could tell it.
pub(super) struct Cut<S> {
    stream: S,
    /// `None` once it is cut.
    told: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S: Duplex> Cut<S> {
    pub(super) fn new(stream: S, mut cut: watch::Receiver<bool>) -> Self {
        let told = async move {
            // An error means that nobody is left.
            let _ = cut.wait_for(|cut| *cut).await;
        };
        Self { stream, told: Some(Box::pin(told)) }
    }
}

impl<S: Duplex> AsyncRead for Cut<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.told.as_mut().is_some_and(|told| told.as_mut().poll(cx).is_pending()) {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        this.told = None;
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl<S: Duplex> AsyncWrite for Cut<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
