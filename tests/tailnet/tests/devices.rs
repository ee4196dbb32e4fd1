//! Two real devices register, see each other, and pass TCP.

#![allow(clippy::unwrap_used)] // A panic is a failed test.

use std::time::Duration;

use tailscale::{Config, Device};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use weir_test_tailnet::Tailnet;

const DEADLINE: Duration = Duration::from_secs(60);

fn config(tailnet: &Tailnet, name: &str) -> Config {
    Config {
        control_server_url: tailnet.control_url().parse().unwrap(),
        requested_hostname: Some(name.to_owned()),
        ..Config::default()
    }
}

async fn join(tailnet: &Tailnet, name: &str) -> Device {
    let auth_key = tailnet.auth_key().to_owned();
    Device::new(&config(tailnet, name), Some(auth_key)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_register_see_each_other_and_pass_tcp() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let tailnet = Tailnet::start().await.unwrap();
    let passed = timeout(DEADLINE, async {
        let one = join(&tailnet, "one").await;
        let other = join(&tailnet, "other").await;
        let address = other.ipv4_addr().await.unwrap();
        assert_ne!(one.ipv4_addr().await.unwrap(), address);
        let listener = other.tcp_listen((address, 80).into()).await.unwrap();
        let echo = tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap();
            let mut said = [0; 5];
            stream.read_exact(&mut said).await.unwrap();
            stream.write_all(&said).await.unwrap();
            // The other side has to read before this end may go.
            assert_eq!(stream.read(&mut said).await.unwrap(), 0);
        });
        let peer = loop {
            match one.peer_by_name("other").await.unwrap() {
                Some(peer) => break peer,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        assert_eq!(peer.tailnet_address.ipv4.addr(), address);
        let mut stream = one.tcp_connect((address, 80).into()).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        drop(stream);
        echo.await.unwrap();
        for device in [one, other] {
            assert!(device.shutdown(Some(DEADLINE)).await);
        }
    });
    passed.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_the_key_is_not_let_in() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let tailnet = Tailnet::start().await.unwrap();
    let config = config(&tailnet, "stranger");
    let joined = async {
        let device = Device::new(&config, Some("another".to_owned())).await?;
        device.ipv4_addr().await
    };
    // Whether it is told so or waits for ever, it has no address.
    assert!(timeout(Duration::from_secs(3), joined).await.map_or(true, |joined| joined.is_err()));
}
