//! What control and agents say to each other, between the two ends of a pipe.

#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod bare;

use std::{
    convert::Infallible,
    fs,
    future::pending,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bare::{Bare, echo};
use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpSocket},
    runtime::Handle,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};
use weir_config::{HostName, InstanceId};
use weir_deploy::{Begin, Device, Devices, Link, Provider, ProviderError, serve};

const DEADLINE: Duration = Duration::from_secs(20);

fn name(number: usize) -> HostName {
    format!("pi-{number}").parse().unwrap()
}

async fn begin(devices: &Devices, epoch: u64) -> std::io::Result<Link> {
    let (control, device) = duplex(64 << 10);
    tokio::spawn(serve(device, Bare::agent(), Arc::new(Notify::new())));
    devices.begin(control, &Begin { epoch, now: 0 }).await
}

/// Connects a device; the task ends with its connection.
async fn connect(devices: &Devices, device: &HostName) -> JoinHandle<()> {
    let link = begin(devices, 5).await.unwrap();
    let (attending, device) = (devices.clone(), device.clone());
    let task = tokio::spawn({
        let device = device.clone();
        async move { attending.attend(&device, link).await }
    });
    wait_until(|| devices.is_connected(&device)).await;
    task
}

async fn wait_until(holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_device_listens_to_no_control_of_the_past() {
    let devices = Devices::new(Handle::current());
    let refused = begin(&devices, 4).await.unwrap_err();
    assert!(refused.to_string().contains("of the past"), "{refused}");
    assert!(begin(&devices, 5).await.is_ok());
}

#[tokio::test]
async fn the_newer_of_two_connections_is_used_and_the_other_one_ends() {
    let devices = Devices::new(Handle::current());
    let device = Device::new(name(1), devices.clone());
    let away = device.list().await.unwrap_err();
    assert!(away.to_string().contains("not connected"), "{away}");
    let former = connect(&devices, &name(1)).await;
    let newer = connect(&devices, &name(1)).await;
    timeout(DEADLINE, former).await.expect("the former one ends").unwrap();
    // Asked by the newer one, whose engine is not there.
    let error = device.ping().await.unwrap_err();
    assert!(matches!(&error, ProviderError::Unreachable { endpoint, .. } if endpoint == "/none"));
    let error = device.events().await.map(drop).unwrap_err();
    assert!(matches!(&error, ProviderError::Unreachable { endpoint, .. } if endpoint == "/none"));
    devices.disconnect(&name(1));
    timeout(DEADLINE, newer).await.expect("it is cut").unwrap();
    assert!(!devices.is_connected(&name(1)));
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_else_and_a_cut_ends_all() {
    let devices = Devices::new(Handle::current());
    let attending = connect(&devices, &name(1)).await;
    let address = echo().await;
    // Fills whatever is between, because nobody reads what comes back.
    let mut stalled = devices.dial(&name(1), address).await.unwrap();
    let chunk = vec![7; 64 << 10];
    let mut sent = 0;
    while timeout(Duration::from_millis(200), stalled.write_all(&chunk)).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 64 << 20, "there is a bound on what is kept");
    }
    let mut flows = devices.dial(&name(1), address).await.unwrap();
    let through = timeout(DEADLINE, async {
        flows.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        flows.read_exact(&mut said).await.unwrap();
        said
    });
    assert_eq!(&through.await.unwrap(), b"hello");
    let nobody = devices.dial(&name(1), "127.0.0.1:1".parse().unwrap()).await;
    assert_eq!(nobody.err().unwrap().kind(), ErrorKind::ConnectionRefused);

    devices.disconnect(&name(1));
    timeout(DEADLINE, attending).await.expect("nothing keeps it").unwrap();
    let mut rest = Vec::new();
    let ended = timeout(DEADLINE, flows.read_to_end(&mut rest)).await.expect("it ends");
    assert!(ended.is_err() || rest.is_empty());
}

/// Sends for as long as it is taken; `stalled` counts those connections whose peer takes no more.
async fn flood(stalled: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let stalled = stalled.clone();
            tokio::spawn(async move {
                let chunk = vec![7; 64 << 10];
                while timeout(Duration::from_millis(500), stream.write_all(&chunk)).await.is_ok() {}
                stalled.fetch_add(1, Relaxed);
                pending::<()>().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn any_number_of_clients_that_do_not_read_hold_up_no_call() {
    const CLIENTS: usize = 32;
    let devices = Devices::new(Handle::current());
    connect(&devices, &name(1)).await;
    let stalled = Arc::new(AtomicUsize::new(0));
    let address = flood(stalled.clone()).await;
    let mut idle = Vec::new();
    for _ in 0..CLIENTS {
        idle.push(devices.dial(&name(1), address).await.unwrap());
    }
    wait_until(|| stalled.load(Relaxed) == CLIENTS).await;
    let device = Device::new(name(1), devices.clone());
    let asked = timeout(DEADLINE, device.ping()).await.expect("it is answered");
    assert!(
        matches!(asked, Err(ProviderError::Unreachable { endpoint, .. }) if endpoint == "/none")
    );
}

#[tokio::test]
async fn any_number_of_connections_to_apps_leaves_room_for_calls() {
    let devices = Devices::new(Handle::current());
    connect(&devices, &name(1)).await;
    // Has connections, up to its backlog, and does nothing with them.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4096).unwrap();
    let address = listener.local_addr().unwrap();
    let mut open = Vec::new();
    let refused = loop {
        let dialled = timeout(DEADLINE, devices.dial(&name(1), address)).await;
        match dialled.expect("it is carried or refused, and never waits for a place") {
            Ok(stream) => open.push(stream),
            Err(error) => break error,
        }
        assert!(open.len() < 1000, "there is a bound");
    };
    assert!(refused.to_string().contains("connections to apps already"), "{refused}");
    let device = Device::new(name(1), devices.clone());
    let asked = timeout(DEADLINE, device.ping()).await.expect("it is answered");
    assert!(
        matches!(asked, Err(ProviderError::Unreachable { endpoint, .. }) if endpoint == "/none")
    );
    open.pop();
    assert!(devices.dial(&name(1), address).await.is_ok(), "what is closed makes room");
}

type Said = UnsyncBoxBody<Bytes, Infallible>;

fn whole(text: String) -> Said {
    Full::from(text).boxed_unsync()
}

/// A device that was tampered with: it says this to be begun, and this to any call.
async fn begin_with(
    devices: &Devices,
    begun: fn() -> Said,
    called: fn() -> Said,
) -> std::io::Result<Link> {
    let (control, device) = duplex(64 << 10);
    let service = service_fn(move |request: Request<Incoming>| async move {
        let body = if request.uri().path() == "/begin" { begun() } else { called() };
        Ok::<_, Infallible>(Response::new(body))
    });
    let http = http2::Builder::new(TokioExecutor::new());
    tokio::spawn(http.serve_connection(TokioIo::new(device), service));
    devices.begin(control, &Begin { epoch: 5, now: 0 }).await
}

/// That it is begun, with a name of so many octets.
fn about(length: usize) -> Said {
    whole(format!(r#"{{"Ok":{{"hostname":"{}"}}}}"#, "x".repeat(length)))
}

fn nothing() -> Said {
    whole(String::new())
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_finish_what_it_says_is_not_waited_for() {
    let devices = Devices::new(Handle::current());
    let unfinished = || StreamBody::new(stream::pending()).boxed_unsync();
    let begun = timeout(DEADLINE * 3, begin_with(&devices, unfinished, nothing)).await;
    let error = begun.expect("it is given up").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[tokio::test]
async fn a_device_says_of_itself_what_is_worth_keeping_and_no_more() {
    let devices = Devices::new(Handle::current());
    let link = begin_with(&devices, || about(1000), nothing).await.unwrap();
    assert_eq!(link.about().hostname.len(), 1000);
    assert!(begin_with(&devices, || about(1 << 20), nothing).await.is_err());
}

#[tokio::test]
async fn a_line_that_is_long_costs_no_more_than_its_length() {
    let devices = Devices::new(Handle::current());
    let long = || {
        let mut chunks = vec![Bytes::from("{\"Ok\":null}\n")];
        chunks.resize(1 + 12 * 1024, Bytes::from(vec![b'x'; 1 << 10]));
        chunks.push(Bytes::from("\n"));
        StreamBody::new(stream::iter(chunks).map(Frame::data).map(Ok)).boxed_unsync()
    };
    let link = begin_with(&devices, || about(1), long).await.unwrap();
    let attending = devices.clone();
    tokio::spawn(async move { attending.attend(&name(1), link).await });
    wait_until(|| devices.is_connected(&name(1))).await;
    let instance = r#"{"app": "a", "deployment": 1, "ordinal": 0, "host": "pi-1"}"#;
    let instance: InstanceId = serde_json::from_str(instance).unwrap();
    let device = Device::new(name(1), devices);
    let mut lines = device.logs(&instance, None, true).await.unwrap();
    let line = timeout(DEADLINE, lines.next()).await.expect("it is read in time").unwrap();
    assert!(line.is_err(), "it is no line of a log");
}

/// The time that this process has used of processors.
fn used() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // In hundredths of a second, in user and in kernel mode.
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

#[tokio::test]
async fn two_thousand_devices_cost_little() {
    const DEVICES: usize = 2000;
    /// How often each is asked whether it is there.
    const BEAT: Duration = Duration::from_secs(10);
    let devices = Devices::new(Handle::current());
    for number in 0..DEVICES {
        connect(&devices, &name(number)).await;
    }
    let before = used();
    let rounds = 3;
    for _ in 0..rounds {
        let beats = (0..DEVICES).map(async |number| {
            let device = Device::new(name(number), devices.clone());
            assert!(device.ping().await.is_err(), "its engine is not there");
        });
        join_all(beats).await;
    }
    let round = (used() - before) / rounds;
    let share = round.as_secs_f64() / BEAT.as_secs_f64();
    println!(
        "{DEVICES} devices at beats of {BEAT:?}: {:.1} % of a core, both sides",
        share * 100.0
    );
    assert!(share < 0.15, "{share}");
}
