//! One connection of a device, from control's side.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http_body_util::{BodyDataStream, BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{
    BEAT, BEAT_LIMIT, CALLERS, CONNECTION_WINDOW, DIALS, STREAM_WINDOW,
    cut::Cut,
    dialled::Dialled,
    wire::{
        About, BEGIN, Begin, CALL, CALLER, Call, Caller, DIGEST, LEAVE, OUTGOING, PROGRAM, RESTART,
    },
};
use crate::{
    provider::{ProviderError, Stream},
    transport::Duplex,
};

/// A device that does not answer the first question in this time is not taken in.
const BEGIN_LIMIT: Duration = Duration::from_secs(20);
/// Who does not take note in this time is not waited for.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);
/// For some ten megabytes over a slow line.
const UPDATE_LIMIT: Duration = Duration::from_mins(10);
/// The longest line of a stream, and the longest answer to a call.
const MAX_ANSWER: usize = 16 << 20;
/// More than any device has to say of itself. It is kept, and a device may have been stolen.
const MAX_ABOUT: usize = 64 << 10;

/// A device's connection on which it has begun. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    sender: SendRequest<Full<Bytes>>,
    about: Arc<About>,
    /// Cuts the connection when it says so.
    close: Arc<watch::Sender<bool>>,
    /// Places for connections to apps.
    dials: Arc<Semaphore>,
    /// Those of apps on the device.
    callers: Arc<Semaphore>,
}

impl Link {
    /// Begins on a connection that TLS has made sure of. It is driven by `runtime` until it ends.
    ///
    /// # Errors
    /// The device does not answer, or refuses this control as one of the past.
    pub(super) async fn open(
        stream: impl Duplex + 'static,
        begin: &Begin,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let mut builder = Builder::new(On(runtime.clone()));
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(BEAT)
            .keep_alive_timeout(BEAT_LIMIT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let close = watch::Sender::new(false);
        let stream = TokioIo::new(Cut::new(stream, close.subscribe()));
        let handshake = timeout(BEGIN_LIMIT, builder.handshake(stream));
        let (sender, connection) = handshake.await?.map_err(io::Error::other)?;
        // How it ends is known by those that use it.
        runtime.spawn(connection);
        let (about, close) = (Arc::default(), Arc::new(close));
        let dials = Arc::new(Semaphore::new(DIALS as usize));
        let callers = Arc::new(Semaphore::new(CALLERS as usize));
        let mut link = Self { sender, about, close, dials, callers };
        let answer = async { read(link.post(BEGIN, begin).await?, MAX_ABOUT).await };
        let begun: Result<About, String> = timeout(BEGIN_LIMIT, answer).await??;
        link.about = Arc::new(begun.map_err(io::Error::other)?);
        Ok(link)
    }

    /// What the device says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&self) {
        self.close.closed().await;
    }

    /// Ends the connection, with all that is under way on it.
    pub fn close(&self) {
        self.close.send_replace(true);
    }

    /// Asks the device to make another connection, and to carry only requests on this one. If it
    /// does not hear it, it will notice that this one has ended.
    pub(super) async fn send_away(&self) {
        let _ = timeout(LEAVE_LIMIT, self.post(LEAVE, &())).await;
    }

    /// Sends the agent a newer program of itself, and has it start anew as that.
    ///
    /// # Errors
    /// The connection broke; inside, why the device does not take it.
    pub async fn update(&self, sha256: &str, program: Bytes) -> io::Result<Result<(), String>> {
        let request =
            Request::builder().method(Method::POST).uri(format!("http://device{PROGRAM}"));
        let request = request.header(DIGEST, sha256).body(Full::from(program));
        let sent = self.send(request.map_err(io::Error::other)?);
        let answer = timeout(UPDATE_LIMIT, sent).await??;
        let taken = match answer.status() {
            StatusCode::OK => read(answer, MAX_ABOUT).await?,
            _ => Err(text(answer).await?),
        };
        if taken.is_ok() {
            // It has gone before it could answer.
            let _ = timeout(LEAVE_LIMIT, self.post(RESTART, &())).await;
        }
        Ok(taken)
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.close, &other.close)
    }

    /// Makes a call and waits for its answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> io::Result<Result<T, ProviderError>> {
        read(self.post(CALL, call).await?, MAX_ANSWER).await
    }

    /// Makes a call that is answered bit by bit, and waits for the beginning.
    pub(super) async fn stream<T: DeserializeOwned + Send + 'static>(
        &self,
        call: &Call,
    ) -> io::Result<Result<Stream<T>, ProviderError>> {
        let mut lines = Lines::of(self.post(CALL, call).await?);
        // The first line says whether there is anything to come.
        match lines.next::<Result<(), ProviderError>>().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return Ok(Err(error)),
            Some(Err(error)) => return Err(error),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        let items = stream::unfold(lines, |mut lines| async {
            let item = match lines.next::<Result<T, ProviderError>>().await? {
                Ok(item) => item,
                Err(error) => Err(gone(&error)),
            };
            Some((item, lines))
        });
        Ok(Ok(items.boxed()))
    }

    /// Connects to an address as it is seen from the device. When all places are taken it is refused
    /// at once: in a queue it would hold up the calls behind it.
    pub(super) async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Duplex>> {
        let place = self.dials.clone().try_acquire_owned().map_err(|_| {
            io::Error::other(format!("the device carries {DIALS} connections to apps already"))
        })?;
        let answer = self.connect(&address.to_string()).await?;
        let upgraded = hyper::upgrade::on(answer).await.map_err(io::Error::other)?;
        Ok(Box::new(Dialled { stream: TokioIo::new(upgraded), _place: place }))
    }

    /// Waits for the next app on the device that calls another one, and carries what it says. To
    /// be asked several times at once, as often as calls are to be taken that come together. When
    /// all places for such are taken, the next one waits on the device.
    ///
    /// # Errors
    /// The connection has ended, or the agent knows of no such calls.
    pub async fn next_caller(&self) -> io::Result<(Caller, Box<dyn Duplex>)> {
        let place = self.callers.clone().acquire_owned().await.map_err(io::Error::other)?;
        let answer = self.connect(OUTGOING).await?;
        let caller = answer.headers().get(CALLER).map_or(&b""[..], |value| value.as_bytes());
        let caller = serde_json::from_slice(caller)?;
        let upgraded = hyper::upgrade::on(answer).await.map_err(io::Error::other)?;
        Ok((caller, Box::new(Dialled { stream: TokioIo::new(upgraded), _place: place })))
    }

    async fn connect(&self, to: &str) -> io::Result<Response<Incoming>> {
        let request = Request::connect(to).body(Full::default());
        let answer = self.send(request.map_err(io::Error::other)?).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            _ => Err(io::Error::new(io::ErrorKind::ConnectionRefused, text(answer).await?)),
        }
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> io::Result<Response<Incoming>> {
        let body = Full::from(serde_json::to_vec(body)?);
        let request = Request::builder().method(Method::POST).uri(format!("http://device{path}"));
        let answer = self.send(request.body(body).map_err(io::Error::other)?).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            _ => Err(io::Error::other(text(answer).await?)),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> io::Result<Response<Incoming>> {
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(io::Error::other)?;
        sender.send_request(request).await.map_err(io::Error::other)
    }
}

/// Runs what drives a connection on a runtime.
#[derive(Clone)]
struct On(Handle);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for On {
    fn execute(&self, driving: F) {
        self.0.spawn(driving);
    }
}

/// The connection broke while something was said.
fn gone(error: &io::Error) -> ProviderError {
    ProviderError::Unreachable { endpoint: "the device".to_owned(), reason: error.to_string() }
}

async fn read<T: DeserializeOwned>(answer: Response<Incoming>, limit: usize) -> io::Result<T> {
    let body = http_body_util::Limited::new(answer.into_body(), limit);
    let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(serde_json::from_slice(&bytes)?)
}

/// Why a device refuses, in its words.
async fn text(answer: Response<Incoming>) -> io::Result<String> {
    let body = http_body_util::Limited::new(answer.into_body(), 4096);
    let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// An answer that is one JSON value a line.
struct Lines {
    body: BodyDataStream<Incoming>,
    begun: BytesMut,
    /// So much of that has no end of a line in it.
    searched: usize,
}

impl Lines {
    fn of(answer: Response<Incoming>) -> Self {
        let body = answer.into_body().into_data_stream();
        Self { body, begun: BytesMut::new(), searched: 0 }
    }

    async fn next<T: DeserializeOwned>(&mut self) -> Option<io::Result<T>> {
        loop {
            let rest = &self.begun[self.searched..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = self.begun.split_to(std::mem::take(&mut self.searched) + end + 1);
                return Some(serde_json::from_slice(&line).map_err(io::Error::from));
            }
            self.searched = self.begun.len();
            if self.searched > MAX_ANSWER {
                return Some(Err(io::Error::other("a line without an end")));
            }
            match self.body.next().await? {
                Ok(bytes) => self.begun.extend_from_slice(&bytes),
                Err(error) => return Some(Err(io::Error::other(error))),
            }
        }
    }
}
