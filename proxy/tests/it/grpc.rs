//! gRPC end to end, with real clients and servers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body as AxumBody, extract::State, http::Response};
use futures::{Stream, StreamExt, stream};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;
use weir_config::{PlainHttp, RouteState, SleepLevel, TrafficPolicy, UpstreamProtocol};

use crate::{
    harness::{Hint, World, eventually, logged},
    text_codec::{Message, TextCodec},
    upstreams::serve,
};

/// How many calls of `Forever` are under way.
type UnderWay = Arc<AtomicU64>;

async fn service(state: UnderWay) -> std::net::SocketAddr {
    serve(Router::new().fallback(answer).with_state(state)).await
}

async fn answer(
    State(under_way): State<UnderWay>,
    request: axum::extract::Request,
) -> Response<AxumBody> {
    let mut server = tonic::server::Grpc::new(TextCodec);
    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
    let answer = match &*method {
        "Unary" => server.unary(service_fn(unary), request).await,
        "Server" => server.server_streaming(service_fn(server_streaming), request).await,
        "Client" => server.client_streaming(service_fn(client_streaming), request).await,
        "Bidi" => server.streaming(service_fn(bidi), request).await,
        _ => {
            let forever = service_fn(|request| forever(request, under_way.clone()));
            server.server_streaming(forever, request).await
        }
    };
    answer.map(AxumBody::new)
}

async fn unary(request: Request<Message>) -> Result<tonic::Response<Message>, Status> {
    if request.get_ref() == "fail" {
        return Err(Status::failed_precondition("no, ü"));
    }
    let mut response = tonic::Response::new(request.get_ref().clone());
    let seen = request.metadata().get("x-meta").cloned();
    response.metadata_mut().insert("x-meta", seen.unwrap());
    Ok(response)
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

async fn server_streaming(_: Request<Message>) -> Result<tonic::Response<Answers>, Status> {
    let some = ["one", "two"].map(|text| Ok(Message::from(text)));
    let then = stream::iter(some).chain(stream::iter([Err(Status::aborted("enough"))]));
    Ok(tonic::Response::new(Box::pin(then)))
}

async fn client_streaming(
    request: Request<Streaming<Message>>,
) -> Result<tonic::Response<Message>, Status> {
    let all: Vec<_> = request.into_inner().map(Result::unwrap).collect().await;
    Ok(tonic::Response::new(Message::from(all.join(" "))))
}

async fn bidi(request: Request<Streaming<Message>>) -> Result<tonic::Response<Answers>, Status> {
    let answers = request.into_inner().map(|message| message.map(|text| format!(">{text}")));
    Ok(tonic::Response::new(Box::pin(answers)))
}

/// Ends only for a client that has a deadline.
async fn forever(
    request: Request<Message>,
    under_way: UnderWay,
) -> Result<tonic::Response<Answers>, Status> {
    let deadline = request.metadata().get("grpc-timeout").map(|at| at.to_str().unwrap().to_owned());
    struct Leave(UnderWay);
    impl Drop for Leave {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    under_way.fetch_add(1, SeqCst);
    let leave = Leave(under_way);
    let first = stream::iter([Ok(Message::from("first"))]);
    let never = stream::once(async move {
        let _leave = leave;
        match deadline {
            Some(at) => Err(Status::deadline_exceeded(at)),
            None => std::future::pending().await,
        }
    });
    Ok(tonic::Response::new(Box::pin(first.chain(never))))
}

struct Client(Grpc<Channel>);

impl Client {
    async fn ready(&mut self) -> &mut Grpc<Channel> {
        self.0.ready().await.unwrap();
        &mut self.0
    }
}

impl World {
    async fn grpc(&self, app: &str) -> Client {
        let host = format!("{app}.apps.test");
        let uri = format!("https://{host}:{}", self.https.port());
        let (tls, https) = (self.connector(&["h2"]), self.https);
        let connect = service_fn(move |_: Uri| {
            let (tls, host) = (tls.clone(), host.clone());
            async move {
                let tcp = TcpStream::connect(https).await?;
                let tls = tls.connect(host.try_into().unwrap(), tcp).await?;
                Ok::<_, std::io::Error>(TokioIo::new(tls))
            }
        });
        let channel = Endpoint::from_shared(uri).unwrap().connect_with_connector(connect).await;
        Client(Grpc::new(channel.unwrap()))
    }

    /// The same without TLS, by prior knowledge.
    async fn plain_grpc(&self, app: &str) -> Client {
        let http = self.http;
        let connect =
            service_fn(
                move |_: Uri| async move { TcpStream::connect(http).await.map(TokioIo::new) },
            );
        let uri = format!("http://{app}.apps.test:{}", http.port());
        let channel = Endpoint::from_shared(uri).unwrap().connect_with_connector(connect).await;
        Client(Grpc::new(channel.unwrap()))
    }

    async fn serve_grpc(&mut self, under_way: UnderWay) -> std::net::SocketAddr {
        let address = service(under_way).await;
        self.wake_grpc(address);
        address
    }

    fn wake_grpc(&mut self, address: std::net::SocketAddr) {
        let http2 = |policy: &mut TrafficPolicy| policy.upstream.protocol = UpstreamProtocol::Http2;
        self.serve_with("rpc", &[address], http2);
    }
}

fn call(text: &str) -> Request<Message> {
    let mut request = Request::new(text.to_owned());
    request.metadata_mut().insert("x-meta", "kept".parse().unwrap());
    request
}

fn method(path: &'static str) -> axum::http::uri::PathAndQuery {
    axum::http::uri::PathAndQuery::from_static(path)
}

async fn check_unary(client: &mut Client) {
    let response =
        client.ready().await.unary(call("hello"), method("/t/Unary"), TextCodec).await.unwrap();
    assert_eq!(response.get_ref(), "hello");
    assert_eq!(response.metadata().get("x-meta").unwrap(), "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_four_kinds_of_calls_work() {
    let mut world = World::start();
    world.serve_grpc(UnderWay::default()).await;
    let mut client = world.grpc("rpc").await;
    check_unary(&mut client).await;

    let path = method("/t/Server");
    let mut answers = client
        .ready()
        .await
        .server_streaming(call(""), path, TextCodec)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap(), "one");
    assert_eq!(answers.message().await.unwrap().unwrap(), "two");
    let status = answers.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Aborted, "enough"));

    let messages = stream::iter(["a", "b", "c"].map(Message::from));
    let response = client
        .ready()
        .await
        .client_streaming(Request::new(messages), method("/t/Client"), TextCodec)
        .await
        .unwrap();
    assert_eq!(response.get_ref(), "a b c");

    // Each answer is seen before the next message is sent.
    let (send, messages) = tokio::sync::mpsc::unbounded_channel();
    let messages = tokio_stream::wrappers::UnboundedReceiverStream::new(messages);
    let answers =
        client.ready().await.streaming(Request::new(messages), method("/t/Bidi"), TextCodec).await;
    let mut answers = answers.unwrap().into_inner();
    for n in 0..10 {
        send.send(format!("{n}")).unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), format!(">{n}"));
    }
    drop(send);
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_the_app_comes_through_and_is_logged() {
    let mut world = World::start();
    world.serve_grpc(UnderWay::default()).await;
    let mut client = world.grpc("rpc").await;
    let status = client
        .ready()
        .await
        .unary(call("fail"), method("/log/a/Unary"), TextCodec)
        .await
        .unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "no, ü"));
    assert_eq!(logged("/log/a/Unary").await["grpc_status"], 9);
    let path = method("/log/b/Server");
    let answers = client.ready().await.server_streaming(call(""), path, TextCodec).await.unwrap();
    let _: Vec<_> = answers.into_inner().collect().await;
    assert_eq!(logged("/log/b/Server").await["grpc_status"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_ends_at_the_app() {
    let mut world = World::start();
    let under_way = UnderWay::default();
    world.serve_grpc(under_way.clone()).await;
    let mut client = world.grpc("rpc").await;
    let path = method("/t/Forever");
    let mut answers = client
        .ready()
        .await
        .server_streaming(call(""), path.clone(), TextCodec)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap(), "first");
    let app = world.app("rpc");
    assert_eq!((under_way.load(SeqCst), app.in_flight()), (1, 1));
    drop(answers);
    eventually("cancelled", || (under_way.load(SeqCst), app.in_flight()) == (0, 0)).await;

    // A deadline is the app's to keep, and it is told.
    let mut late = call("");
    late.set_timeout(Duration::from_secs(3));
    let sent = client.ready().await.server_streaming(late, path, TextCodec).await;
    let mut answers = sent.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap(), "first");
    let status = answers.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "3000000u"));
    check_unary(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_wakes_its_app_and_what_the_proxy_says_is_a_status_too() {
    let mut world = World::start();
    world.serve("rpc", RouteState::Asleep(SleepLevel::Stopped));
    let mut client = world.grpc("rpc").await;
    let calling = tokio::spawn(async move {
        check_unary(&mut client).await;
        client
    });
    assert_eq!(world.hint().await, Hint::wake("rpc"));
    let address = world.serve_grpc(UnderWay::default()).await;
    let mut client = calling.await.unwrap();

    let reason = "exited with code 3".to_owned();
    world.serve("rpc", RouteState::Unavailable { reason, retry_after: Duration::ZERO });
    let status =
        client.ready().await.unary(call(""), method("/t/Unary"), TextCodec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("cannot be served at the moment"), "{status}");
    world.control.publish(|snapshot| snapshot.remove(&"rpc".parse().unwrap()));
    let status =
        client.ready().await.unary(call(""), method("/t/Unary"), TextCodec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    world.wake_grpc(address);
    check_unary(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_tls_work_where_the_app_is_served_plainly() {
    let mut world = World::start();
    let address = service(UnderWay::default()).await;
    world.serve_with("rpc", &[address], |policy| {
        policy.plain_http = PlainHttp::Serve;
        policy.upstream.protocol = UpstreamProtocol::Http2;
    });
    let mut client = world.plain_grpc("rpc").await;
    check_unary(&mut client).await;
    let path = method("/plain/Server");
    let answers = client.ready().await.server_streaming(call(""), path, TextCodec).await.unwrap();
    let answers: Vec<_> = answers.into_inner().collect().await;
    let [Ok(one), Ok(two), Err(status)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&**one, &**two, status.code()), ("one", "two", Code::Aborted));
    let entry = logged("/plain/Server").await;
    assert_eq!((&entry["scheme"], &entry["grpc_status"]), (&"http".into(), &10.into()));
    // Where it is not, the app hears nothing.
    world.serve_with("rpc", &[address], |policy| {
        policy.upstream.protocol = UpstreamProtocol::Http2;
    });
    client.ready().await.unary(call(""), method("/t/Unary"), TextCodec).await.unwrap_err();
}
