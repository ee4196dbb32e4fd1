//! The smallest client that can tell a right answer: one HTTP/1.1 connection, one request at a
//! time.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, bail, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(crate) struct Client<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Which of the backend's addresses it was connected to.
    pub(crate) fn backend(&self) -> &str {
        let body = std::str::from_utf8(&self.body).unwrap_or_default();
        body.split(' ').next().unwrap_or_default()
    }
}

impl Client<TcpStream> {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }
}

impl Client<TlsStream<TcpStream>> {
    pub(crate) async fn connect_tls(
        address: SocketAddr,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = name.to_owned().try_into()?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Self { stream, buffer: Vec::new() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn get(&mut self, host: &str, path: &str) -> anyhow::Result<Answer> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
    }

    /// Sends a request as it is and reads its answer.
    pub(crate) async fn ask(&mut self, request: &str) -> anyhow::Result<Answer> {
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?;
        let status = text.split(' ').nth(1).context("no status")?.parse()?;
        let length = length(text, status)?;
        while self.buffer.len() < head + length {
            self.read().await?;
        }
        ensure!(self.buffer.len() == head + length, "more was answered than asked for");
        Ok(Answer { status, body: self.buffer.split_off(head) })
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
        Ok(())
    }
}

fn length(head: &str, status: u16) -> anyhow::Result<usize> {
    if status == 101 {
        return Ok(0);
    }
    for line in head.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok(value.trim().parse()?);
        }
    }
    bail!("an answer without a length: {head}")
}

/// What a client trusts. It offers the one key exchange that all of the proxies know, so that the
/// newer ones are not charged for a stronger one.
pub(crate) fn trust(roots: &Path) -> anyhow::Result<ClientConfig> {
    let pem = fs::read(roots)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        store.add(certificate?)?;
    }
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store);
    Ok(config.with_no_client_auth())
}
