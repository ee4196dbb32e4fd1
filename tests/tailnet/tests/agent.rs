//! A device's connection through a tailnet: the transport and the words of production, between
//! two real devices of the `tailscale` crate.

#![allow(clippy::unwrap_used)] // A panic is a failed test.

#[path = "../../../deploy/tests/bare/mod.rs"]
mod bare;

use std::{path::Path, sync::Arc, time::Duration};

use bare::{Bare, echo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
    sync::Notify,
    time::timeout,
};
use weir_config::HostName;
use weir_deploy::{
    Arrived, Begin, Device, Devices, Provider, ProviderError, TailnetOptions, serve,
};
use weir_test_tailnet::Tailnet;

const DEADLINE: Duration = Duration::from_secs(60);

fn options(tailnet: &Tailnet, dir: &Path, name: &str) -> TailnetOptions {
    TailnetOptions {
        hostname: name.to_owned(),
        auth_key: Some(tailnet.auth_key().to_owned()),
        control_url: Some(tailnet.control_url()),
        key_file: dir.join(name),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_asked_and_its_apps_are_reached_through_a_tailnet() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let dir = tempfile::tempdir().unwrap();
    let tailnet = Tailnet::start().await.unwrap();
    let passed = timeout(DEADLINE, async {
        let arrivals = options(&tailnet, dir.path(), "control").arrivals(8601).unwrap();
        let pi = options(&tailnet, dir.path(), "pi").transport().await.unwrap();
        tokio::spawn(async move {
            let agent = Bare::agent();
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
        let past = arrivals.accept().await.unwrap().stream;
        let refused = devices.begin(past, &Begin { epoch: 4, now: 0 }).await;
        assert!(refused.unwrap_err().to_string().contains("of the past"));

        let Arrived { stream, from, node } = arrivals.accept().await.unwrap();
        assert!(from.ip().to_string().starts_with("100.64.0."), "{from}");
        assert!(node.is_some(), "the tailnet has proved who it is");
        let link = devices.begin(stream, &Begin { epoch: 5, now: 0 }).await.unwrap();
        assert_eq!(link.about().hostname, "bare");
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
        assert_eq!(arrivals.accept().await.unwrap().node, node, "it comes again");
    });
    passed.await.unwrap();
}
