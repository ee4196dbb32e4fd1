//! What control and agents say to each other, between the two ends of a pipe.

#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod bare;

use std::{
    fs,
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};

use bare::{Bare, echo};
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::Handle,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};
use weir_config::HostName;
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
