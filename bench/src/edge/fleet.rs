//! Very many devices at which nothing happens: real enrolments and real connections, and engines
//! that only keep a table.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::sleep,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use weir_deploy::{About, Agent, Begin, Enrol, Enrolled, Provider, serve};

use crate::{engine::Engine, process::cpu_of, report::Report, server::Server};

/// Enrolments at a time.
const AT_ONCE: usize = 16;
const MEASURED: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(240);

pub(crate) async fn measure(report: &mut Report, devices: usize) -> anyhow::Result<()> {
    let server = Server::start_with(&["--devices", "127.0.0.1:0"]).await?;
    let began = Instant::now();
    let joined = stream::iter(0..devices).map(|number| join(&server, number));
    joined.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let name = format!("{devices} devices enrolled, {AT_ONCE} at a time");
    report.figure(&name, began.elapsed().as_secs_f64(), "s", "");
    let began = Instant::now();
    while ready(&server).await? < devices {
        ensure!(began.elapsed() < DEADLINE, "not all of them are ready");
        sleep(Duration::from_millis(200)).await;
    }
    let (cpu, revision) = (cpu_of(server.pid())?, revision(&server).await?);
    sleep(MEASURED).await;
    let share = (cpu_of(server.pid())? - cpu).as_secs_f64() / MEASURED.as_secs_f64();
    let name = format!("{devices} devices at which nothing happens");
    report.figure(&name, share * 100.0, "% core", "<= 15");
    let changes = self::revision(&server).await? - revision;
    report.figure("changes in the feed meanwhile", changes as f64, "", "0");
    Ok(())
}

async fn ready(server: &Server) -> anyhow::Result<usize> {
    let (mut ready, mut cursor) = (0, String::new());
    loop {
        let path = format!("/v1/hosts?limit=1000{cursor}");
        let page = server.api("GET", &path, Value::Null).await?;
        let items = page["items"].as_array().context("no list")?;
        let is_ready = |item: &&Value| {
            item["status"]["state"] == "ready" && item["spec"]["engine"] == "device"
        };
        ready += items.iter().filter(is_ready).count();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(ready),
        }
    }
}

async fn revision(server: &Server) -> anyhow::Result<u64> {
    let page = server.api("GET", "/v1/hosts?limit=1", Value::Null).await?;
    page["revision"].as_u64().context("no revision")
}

async fn join(server: &Server, number: usize) -> anyhow::Result<()> {
    let invite = server.api("POST", "/v1/devices/actions/invite", json!({})).await?;
    let token = invite["token"].as_str().context("no token")?;
    let (_, secret) = token.split_once('.').context("no secret")?;
    let key = KeyPair::generate()?;
    let request = CertificateParams::new([])?.serialize_request(&key)?.pem()?;
    let (token, name) = (secret.to_owned(), format!("fleet-{number}"));
    let enrolled = enrol(server, &Enrol { token, name, request, about: About::default() }).await?;

    let certificate = CertificateDer::from_pem_slice(enrolled.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots(server)?)
        .with_client_auth_cert(vec![certificate], key)?;
    let stream = connect(server, config).await?;
    tokio::spawn(serve(stream, Arc::new(Pretended::default()), Arc::new(Notify::new())));
    Ok(())
}

async fn enrol(server: &Server, enrol: &Enrol) -> anyhow::Result<Enrolled> {
    let config = ClientConfig::builder().with_root_certificates(roots(server)?);
    let mut stream = connect(server, config.with_no_client_auth()).await?;
    let body = serde_json::to_string(enrol)?;
    let request = format!(
        "POST /enrol HTTP/1.1\r\nHost: control\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    // It may close the connection without a last word of TLS.
    let _ = stream.read_to_string(&mut answer).await;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "not enrolled: {body}");
    Ok(serde_json::from_str(body)?)
}

fn roots(server: &Server) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&server.authority()?)?)?;
    Ok(roots)
}

async fn connect(server: &Server, config: ClientConfig) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", server.devices()?)).await?;
    let name = ServerName::try_from("control.weir.internal")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// A device whose engine only keeps a table.
#[derive(Default)]
struct Pretended(Engine);

#[async_trait]
impl Agent for Pretended {
    fn provider(&self) -> &dyn Provider {
        &self.0
    }

    async fn begin(&self, _: &Begin) -> Result<About, String> {
        Ok(About::default())
    }

    fn epoch(&self) -> u64 {
        0
    }
}
