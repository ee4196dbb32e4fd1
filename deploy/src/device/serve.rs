//! The agent's side of a connection.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{HeaderName, HeaderValue},
    server::conn::http2::Builder,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;
use weir_config::{Secret, Secrets};
use zeroize::Zeroizing;

use super::{
    BEAT, BEAT_LIMIT, CONNECTION_WINDOW, STREAM_WINDOW, STREAMS,
    wire::{
        About, BEGIN, Begin, CALL, CALLER, Call, Caller, DIGEST, LEAVE, MAX_CALL, OUTGOING,
        PROGRAM, RESTART,
    },
};
use crate::{
    provider::{Provider, ProviderError, Stream},
    transport::Duplex,
};

/// What an agent is to those who serve its connection.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// What does what control asks for.
    fn provider(&self) -> &dyn Provider;

    /// Takes note of who asks from now on, and says what this device is.
    ///
    /// # Errors
    /// Why it is not to be listened to, as one of the past.
    async fn begin(&self, begin: &Begin) -> Result<About, String>;

    /// The highest epoch that has begun.
    fn epoch(&self) -> u64;

    /// Keeps a newer program of the agent, to become it at the next start.
    ///
    /// # Errors
    /// Why not, in words.
    async fn take_program(&self, program: Program) -> Result<(), String> {
        drop(program);
        Err("this agent is not updated by control".to_owned())
    }

    /// Starts anew.
    fn restart(&self) {}

    /// Waits for the next app here that calls another one. It is given up at any time, and then
    /// nobody's call may be lost.
    async fn next_caller(&self) -> (Caller, Box<dyn Duplex>) {
        std::future::pending().await
    }
}

/// A program of the agent on its way.
pub struct Program {
    /// What it is to be, in hex.
    pub sha256: String,
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// One connection, and who speaks on it.
struct Session {
    agent: Arc<dyn Agent>,
    left: Arc<Notify>,
    /// Zero until it is begun.
    epoch: AtomicU64,
}

/// Answers what control asks on a connection, until it ends. `left` is told when another one is to
/// be made; then this one still carries what is under way on it, until control is done with it.
///
/// # Errors
/// How it broke.
pub async fn serve(
    stream: impl Duplex + 'static,
    agent: Arc<dyn Agent>,
    left: Arc<Notify>,
) -> io::Result<()> {
    let session = Arc::new(Session { agent, left, epoch: AtomicU64::new(0) });
    let service = service_fn(move |request| {
        let session = session.clone();
        async move { Ok::<_, Infallible>(session.answer(request).await) }
    });
    let connection = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(BEAT)
        .keep_alive_timeout(BEAT_LIMIT)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .serve_connection(TokioIo::new(stream), service);
    connection.await.map_err(io::Error::other)
}

impl Session {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if (request.method(), request.uri().path()) == (&Method::POST, BEGIN) {
            let Ok(begin) = read::<Begin>(request).await else { return bad_request() };
            let begun = self.agent.begin(&begin).await;
            if begun.is_ok() {
                self.epoch.store(begin.epoch, Relaxed);
            }
            return json(&begun);
        }
        let epoch = self.epoch.load(Relaxed);
        if epoch == 0 {
            return bad_request();
        }
        let to = request.uri().authority().filter(|_| request.method() == Method::CONNECT);
        if let Some(to) = to.map(|to| to.as_str().to_owned())
            && to != OUTGOING
        {
            // Who decides no longer carries requests still.
            return connect(request, &to).await;
        }
        if epoch < self.agent.epoch() {
            let why = "this device listens to another control by now";
            return refusal(StatusCode::CONFLICT, why);
        }
        match *request.method() {
            Method::CONNECT => self.call_out(request).await,
            Method::POST if request.uri().path() == LEAVE => {
                self.left.notify_one();
                json(&())
            }
            Method::POST if request.uri().path() == PROGRAM => self.take_program(request).await,
            Method::POST if request.uri().path() == RESTART => {
                self.agent.restart();
                json(&())
            }
            Method::POST if request.uri().path() == CALL => match read::<Call>(request).await {
                Ok(call) => self.call(call).await,
                Err(_) => bad_request(),
            },
            _ => bad_request(),
        }
    }

    async fn take_program(&self, request: Request<Incoming>) -> Answer {
        let digest = request.headers().get(DIGEST).and_then(|value| value.to_str().ok());
        let Some(sha256) = digest.map(str::to_owned) else { return bad_request() };
        let bytes = request.into_body().into_data_stream().map_err(io::Error::other).boxed();
        json(&self.agent.take_program(Program { sha256, bytes }).await)
    }

    /// Connects a stream to the next app here that calls another one.
    async fn call_out(&self, request: Request<Incoming>) -> Answer {
        let (caller, stream) = self.agent.next_caller().await;
        let mut answer = join(request, stream);
        // Names and addresses: what a header can say.
        let caller =
            serde_json::to_vec(&caller).ok().and_then(|json| HeaderValue::from_bytes(&json).ok());
        answer.headers_mut().extend(caller.map(|caller| (HeaderName::from_static(CALLER), caller)));
        answer
    }

    async fn call(&self, call: Call) -> Answer {
        let engine = self.agent.provider();
        match call {
            Call::Info => json(&engine.info().await),
            Call::Ping => json(&engine.ping().await),
            Call::List => json(&engine.list().await),
            Call::Inspect(instance) => json(&engine.inspect(&instance).await),
            Call::Create { spec, secrets } => {
                let secret = |value| Secret::new(Zeroizing::new(value));
                let secrets: Result<Secrets, String> =
                    secrets.into_iter().map(|(name, value)| Ok((name, secret(value)?))).collect();
                let Ok(secrets) = secrets else { return bad_request() };
                json(&engine.create(&spec, &secrets).await)
            }
            Call::Start(instance) => json(&engine.start(&instance).await),
            Call::Pause(instance) => json(&engine.pause(&instance).await),
            Call::Unpause(instance) => json(&engine.unpause(&instance).await),
            Call::Stop { instance, grace } => json(&engine.stop(&instance, grace).await),
            Call::Remove(instance) => json(&engine.remove(&instance).await),
            Call::Logs { instance, tail, follow } => {
                lines(engine.logs(&instance, tail, follow).await)
            }
            Call::Stats(instance) => json(&engine.stats(&instance).await),
            Call::Exec { instance, command, limit } => {
                json(&engine.exec(&instance, &command, limit).await)
            }
            Call::ExactImage(instance) => json(&engine.exact_image(&instance).await),
            Call::Events => lines(engine.events().await),
        }
    }
}

/// Connects a stream to an address here.
async fn connect(request: Request<Incoming>, to: &str) -> Answer {
    let Ok(address) = to.parse::<SocketAddr>() else { return bad_request() };
    match crate::transport::connect(address).await {
        Ok(app) => join(request, app),
        Err(error) => refusal(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

/// Answers by what comes from a connection, which gets what is asked.
fn join(mut request: Request<Incoming>, mut app: impl Duplex + 'static) -> Answer {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        // Either side may end it at any time, and the other one is told.
        drop(tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut app).await);
    });
    Response::new(Full::default().boxed_unsync())
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> io::Result<T> {
    let body = Limited::new(request.into_body(), MAX_CALL);
    let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(serde_json::from_slice(&bytes)?)
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => Response::new(Full::from(bytes).boxed_unsync()),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// One value a line: first whether there are any to come, then each as it comes.
fn lines<T: Serialize + Send + 'static>(begun: Result<Stream<T>, ProviderError>) -> Answer {
    let (first, items) = match begun {
        Ok(items) => (Ok(()), items),
        Err(error) => (Err(error), stream::empty().boxed()),
    };
    let first = stream::once(std::future::ready(line(&first)));
    let items = items.map(|item| line(&item));
    Response::new(StreamBody::new(first.chain(items)).boxed_unsync())
}

fn line(value: &impl Serialize) -> Result<Frame<Bytes>, Infallible> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    Ok(Frame::data(bytes.into()))
}

fn bad_request() -> Answer {
    refusal(
        StatusCode::BAD_REQUEST,
        "this agent does not understand that; is it of another version?",
    )
}

fn refusal(status: StatusCode, why: &str) -> Answer {
    let mut answer = Response::new(Full::from(why.to_owned()).boxed_unsync());
    *answer.status_mut() = status;
    answer
}
