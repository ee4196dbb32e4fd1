//! The same by others: lego, whose DNS provider is Weir's API, and Caddy.

use std::{
    cell::Cell,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::json;

use super::{
    issuance::{shown, trust_of},
    pebble::Pebble,
    server::Weir,
};
use crate::site::{DOMAIN, free_address};

#[derive(Clone, Copy, Debug)]
pub(super) enum Proof {
    Dns,
    /// It listens here for the authority.
    Http(SocketAddr),
}

pub(super) struct Lego {
    dir: PathBuf,
    /// Writes a TXT record, as lego tells it to.
    writer: PathBuf,
    dns: SocketAddr,
    /// Each order is made by a new account.
    orders: Cell<u32>,
}

impl Lego {
    pub(super) fn new(dir: &Path, weir: &Weir) -> anyhow::Result<Self> {
        let writer = dir.join("write-record");
        let url = format!("http://{}/v1/zones/{DOMAIN}/records", weir.admin);
        let script = format!(
            "#!/bin/sh\n\
             name=${{2%.{DOMAIN}.}}\n\
             case $1 in present) method=PUT ;; *) method=DELETE ;; esac\n\
             exec curl -fsS -X $method -H 'Authorization: Bearer {}' \
             -H 'Content-Type: application/json' \
             -d \"{{\\\"data\\\": [\\\"\\\\\\\"$3\\\\\\\"\\\"]}}\" '{url}/'$name/TXT\n",
            weir.token
        );
        fs::write(&writer, script)?;
        fs::set_permissions(&writer, fs::Permissions::from_mode(0o700))?;
        let dns = weir.dns()?;
        Ok(Self { dir: dir.to_owned(), writer, dns, orders: Cell::new(0) })
    }

    /// How long it takes to order a certificate, its start included.
    pub(super) fn order(
        &self,
        pebble: &Pebble,
        name: &str,
        proof: Proof,
    ) -> anyhow::Result<Duration> {
        self.orders.set(self.orders.get() + 1);
        let account = self.dir.join(format!("lego-{}", self.orders.get()));
        let mut command = Command::new("lego");
        command
            .args(["--server", &pebble.directory, "--email", "ops@example.test", "--accept-tos"])
            .args(["--domains", name])
            .arg("--path")
            .arg(account)
            .env("LEGO_CA_CERTIFICATES", &pebble.own)
            .stdin(Stdio::null());
        match proof {
            Proof::Dns => command
                .args(["--dns", "exec", "--dns.disable-cp"])
                .args(["--dns.resolvers", &self.dns.to_string()])
                .env("EXEC_PATH", &self.writer),
            Proof::Http(at) => command.args(["--http", "--http.port", &at.to_string()]),
        };
        let began = Instant::now();
        let output = command.arg("run").output().context("lego cannot be started")?;
        let took = began.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "lego has no certificate for {name}: {said}");
        Ok(took)
    }
}

/// From the configuration that names the host and the authority until the certificate is shown; its
/// start is not counted.
pub(super) async fn by_caddy(
    dir: &Path,
    pebble: &Pebble,
    http: SocketAddr,
    name: &str,
) -> anyhow::Result<Duration> {
    let (admin, https, state) = (free_address()?, free_address()?, tempfile::tempdir_in(dir)?);
    let log = fs::File::create(state.path().join("caddy.log"))?;
    let mut caddy = tokio::process::Command::new("caddy");
    let _caddy = caddy
        .arg("run")
        .env("CADDY_ADMIN", admin.to_string())
        .env("HOME", state.path())
        .env("XDG_CONFIG_HOME", state.path())
        .env("XDG_DATA_HOME", state.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("caddy cannot be started; `scripts/setup bench` installs it")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let began = Instant::now();
    while client.get(format!("http://{admin}/config/")).send().await.is_err() {
        ensure!(began.elapsed() < Duration::from_secs(20), "Caddy does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let config = config(pebble, admin, http, https, name);
    let trusted = trust_of(&pebble.root)?;
    let began = Instant::now();
    let load = client.post(format!("http://{admin}/load")).json(&config);
    load.send().await?.error_for_status()?;
    shown(https, name, trusted, began).await
}

fn config(
    pebble: &Pebble,
    admin: SocketAddr,
    http: SocketAddr,
    https: SocketAddr,
    name: &str,
) -> serde_json::Value {
    let issuer = json!({
        "module": "acme",
        "ca": pebble.directory,
        "trusted_roots_pem_files": [pebble.own],
        "challenges": {"tls-alpn": {"disabled": true}},
    });
    let route = json!({
        "match": [{"host": [name]}],
        "handle": [{"handler": "static_response", "body": "hello"}],
    });
    json!({
        "admin": {"listen": admin},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {
            "http": {
                "http_port": http.port(),
                "https_port": https.port(),
                "servers": {"one": {"listen": [https], "routes": [route]}},
            },
            "tls": {"automation": {"policies": [{"subjects": [name], "issuers": [issuer]}]}},
        },
    })
}
