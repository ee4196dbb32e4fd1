//! A device's connection through a tailnet: the transport and the words of production, between
//! two real devices of the `tailscale` crate.

#![allow(clippy::unwrap_used)] // A panic is a failed test.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::TcpListener,
    runtime::Handle,
    sync::Notify,
    time::timeout,
};
use weir_config::HostName;
use weir_deploy::{
    About, Agent, Arrivals, Begin, Device, Devices, Docker, Provider, ProviderError, Tailnet,
    TailnetArrivals, TailnetOptions, Transport, serve,
};
use weir_test_tailnet::Tailnet as TestTailnet;

const DEADLINE: Duration = Duration::from_secs(60);

/// An agent whose engine is not there.
struct Bare(Docker);

#[async_trait]
impl Agent for Bare {
    fn provider(&self) -> &dyn Provider {
        &self.0
    }

    async fn begin(&self, begin: &Begin) -> Result<About, String> {
        match begin.epoch {
            1 => Err("of the past".to_owned()),
            _ => Ok(About { hostname: "pi".to_owned(), ..About::default() }),
        }
    }

    fn epoch(&self) -> u64 {
        2
    }
}

fn options(tailnet: &TestTailnet, dir: &Path, name: &str) -> TailnetOptions {
    TailnetOptions {
        hostname: name.to_owned(),
        auth_key: Some(tailnet.auth_key().to_owned()),
        control_url: Some(tailnet.control_url()),
        key_file: dir.join(name),
    }
}

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                copy(&mut read, &mut write).await
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_asked_and_its_apps_are_reached_through_a_tailnet() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let dir = tempfile::tempdir().unwrap();
    let tailnet = TestTailnet::start().await.unwrap();
    let passed = timeout(DEADLINE, async {
        let arrivals = TailnetArrivals::new(options(&tailnet, dir.path(), "control"), 8601);
        let pi = Tailnet::join(&options(&tailnet, dir.path(), "pi")).await.unwrap();
        tokio::spawn(async move {
            let agent = Arc::new(Bare(Docker::new(HostName::local(), Path::new("/none"), "")));
            loop {
                // It may not see the other one at once.
                match pi.connect("control:8601").await {
                    Ok(stream) => {
                        drop(serve(stream, agent.clone(), Arc::new(Notify::new())).await);
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let devices = Devices::new(Handle::current());
        let (past, _) = arrivals.accept().await.unwrap();
        let refused = devices.begin(past, &Begin { epoch: 1, now: 0 }).await;
        assert!(refused.unwrap_err().to_string().contains("of the past"));

        let (stream, from) = arrivals.accept().await.unwrap();
        assert!(from.ip().to_string().starts_with("100.64.0."), "{from}");
        let link = devices.begin(stream, &Begin { epoch: 2, now: 0 }).await.unwrap();
        assert_eq!(link.about().hostname, "pi");
        let name: HostName = "pi".parse().unwrap();
        tokio::spawn({
            let (devices, name) = (devices.clone(), name.clone());
            async move { devices.attend(&name, link).await }
        });
        let device = Device::new(name.clone(), devices.clone());
        let error = device.info().await.unwrap_err();
        assert!(
            matches!(&error, ProviderError::Unreachable { endpoint, .. } if endpoint == "/none")
        );

        let address = echo().await;
        let mut app = device.dial(address).await.unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| i as u8).collect();
        let mut got = vec![0; sent.len()];
        let (mut read, mut write) = tokio::io::split(&mut app);
        let both = tokio::join!(write.write_all(&sent), read.read_exact(&mut got));
        both.0.unwrap();
        both.1.unwrap();
        assert_eq!(got, sent);
        assert!(device.dial("127.0.0.1:1".parse().unwrap()).await.is_err(), "nobody listens");

        devices.disconnect(&name);
        let (_, from) = arrivals.accept().await.unwrap();
        assert!(from.ip().is_ipv4(), "it comes again");
    });
    passed.await.unwrap();
}
