//! Pebble, Let's Encrypt's authority for tests, which is never slower than it must be.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::ensure;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::site::free_address;

pub(super) struct Pebble {
    /// Ended when it is dropped.
    _child: Child,
    pub(super) directory: String,
    /// What its own listeners show.
    pub(super) own: PathBuf,
    /// What it issues is of this.
    pub(super) root: PathBuf,
}

const START: Duration = Duration::from_secs(20);

impl Pebble {
    /// One that asks `dns` for everything, and for HTTP-01 at `http`.
    pub(super) async fn start(
        dir: &Path,
        dns: SocketAddr,
        http: SocketAddr,
    ) -> anyhow::Result<Self> {
        let (own, key_file, root) =
            (dir.join("own.pem"), dir.join("own.key"), dir.join("root.pem"));
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
        fs::write(&own, certificate.pem())?;
        fs::write(&key_file, key.serialize_pem())?;
        let (api, management) = (free_address()?, free_address()?);
        let config = json!({"pebble": {
            "listenAddress": api,
            "managementListenAddress": management,
            "certificate": own,
            "privateKey": key_file,
            "httpPort": http.port(),
            "tlsPort": 1,
            "ocspResponderURL": "",
        }});
        let config_file = dir.join("pebble.json");
        fs::write(&config_file, config.to_string())?;
        let log = fs::File::create(dir.join("pebble.log"))?;
        let child = Command::new("pebble")
            .arg("-config")
            .arg(config_file)
            .args(["-dnsserver", &dns.to_string()])
            // Its own delays, and its refusals of good nonces, are not to be measured.
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let trusted = reqwest::Certificate::from_pem(&fs::read(&own)?)?;
        let client = reqwest::Client::builder().tls_certs_only([trusted]).no_proxy().build()?;
        let began = Instant::now();
        let pem = loop {
            match client.get(format!("https://{management}/roots/0")).send().await {
                Ok(answer) => break answer.error_for_status()?.bytes().await?,
                Err(error) => ensure!(began.elapsed() < START, "Pebble does not answer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        fs::write(&root, pem)?;
        Ok(Self { _child: child, directory: format!("https://{api}/dir"), own, root })
    }

    /// What an operator writes to have certificates from it.
    pub(super) fn issuer(&self) -> anyhow::Result<Value> {
        let roots = fs::read_to_string(&self.own)?;
        let spec = json!({"directory": self.directory, "terms_agreed": true, "roots": roots});
        Ok(json!({"kind": "Issuer", "name": "pebble", "spec": spec}))
    }
}
