//! Clients that verify the proxy's certificate.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use weir_config::Certificate;

use crate::harness::{Ca, DEADLINE, World};

impl World {
    pub(crate) fn h1(&self) -> reqwest::Client {
        client(&self.ca).http1_only().build().unwrap()
    }

    /// One that connects from this address.
    pub(crate) fn h1_from(&self, address: IpAddr) -> reqwest::Client {
        client(&self.ca).http1_only().local_address(address).build().unwrap()
    }

    pub(crate) fn h2(&self) -> reqwest::Client {
        client(&self.ca).http2_prior_knowledge().build().unwrap()
    }

    /// A connection to the HTTP port that a test writes its own bytes to.
    pub(crate) async fn plain(&self) -> Raw<TcpStream> {
        Raw(TcpStream::connect(self.http).await.unwrap())
    }

    /// A TLS connection that a test writes its own bytes to.
    pub(crate) async fn raw(&self, server_name: &str) -> Raw {
        self.tls().connect(self.https, server_name).await.unwrap()
    }

    /// The same, with something before the handshake.
    pub(crate) async fn raw_after(&self, before: impl AsRef<[u8]>, server_name: &str) -> Raw {
        let mut tcp = TcpStream::connect(self.https).await.unwrap();
        tcp.write_all(before.as_ref()).await.unwrap();
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        Raw(TlsConnector::from(self.tls().0).connect(name, tcp).await.unwrap())
    }

    /// A client's side of TLS that offers these by ALPN.
    pub(crate) fn connector(&self, protocols: &[&str]) -> TlsConnector {
        let mut config = ClientConfig::clone(&self.tls().0);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A TLS client that remembers its sessions and offers nothing by ALPN.
    pub(crate) fn tls(&self) -> TlsClient {
        TlsClient::new(&self.ca, rustls::ALL_VERSIONS, None)
    }
}

/// Makes TLS connections, each with the tickets of those before.
#[derive(Clone)]
pub(crate) struct TlsClient(pub(crate) Arc<ClientConfig>);

impl TlsClient {
    /// `identity` is what it proves who it is with, if it is asked.
    pub(crate) fn new(
        ca: &Ca,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Certificate>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(der(&ca.pem())).unwrap();
        let config =
            ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
        Self(Arc::new(match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::try_from(identity.key.to_vec()).unwrap();
                let chain = vec![CertificateDer::from(identity.chain[0].to_vec())];
                config.with_client_auth_cert(chain, key).unwrap()
            }
        }))
    }

    pub(crate) async fn connect(&self, to: SocketAddr, server_name: &str) -> io::Result<Raw> {
        let tcp = TcpStream::connect(to).await?;
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        timeout(DEADLINE, TlsConnector::from(self.0.clone()).connect(name, tcp))
            .await
            .expect("the handshake takes too long")
            .map(Raw)
    }

    /// The whole answer to a GET on a connection of its own, and whether that connection came back
    /// with a ticket. An error is the server's refusal of the connection.
    pub(crate) async fn get(
        &self,
        to: SocketAddr,
        server_name: &str,
        host: &str,
        path: &str,
    ) -> io::Result<(String, HandshakeKind)> {
        let mut raw = self.connect(to, server_name).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        raw.0.write_all(request.as_bytes()).await?;
        // What is written may stay in the stream until then, when the task has had its turn.
        raw.0.flush().await?;
        let mut answer = String::new();
        timeout(DEADLINE, raw.0.read_to_string(&mut answer)).await.expect("never closed")?;
        let kind = raw.0.get_ref().1.handshake_kind().unwrap();
        Ok((answer, kind))
    }
}

/// The first certificate of a PEM text.
pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A wire between clients and the proxy, which a test can cut.
pub(crate) struct Wire {
    pub(crate) port: u16,
    carrying: JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn to(proxy: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let carrying = tokio::spawn(async move {
            // One connection; what holds it ends with this task.
            let (mut client, _) = listener.accept().await.unwrap();
            let mut proxy = TcpStream::connect(proxy).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut proxy).await;
        });
        Self { port, carrying }
    }

    pub(crate) fn cut(&self) {
        self.carrying.abort();
    }
}

fn client(ca: &Ca) -> reqwest::ClientBuilder {
    let ca = reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([ca])
        .dns_resolver(Arc::new(Loopback))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(DEADLINE)
}

/// Every name is on this machine.
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, _name: Name) -> Resolving {
        let addresses: Addrs = Box::new([SocketAddr::from((Ipv4Addr::LOCALHOST, 0))].into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

pub(crate) struct Raw<S = TlsStream<TcpStream>>(pub(crate) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads until the text ends with `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        read_until(&mut self.0, end).await
    }

    /// Reads to the end of the connection.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut text = Vec::new();
        // Whether it ends with a word of TLS or without does not matter here.
        let _ = timeout(DEADLINE, self.0.read_to_end(&mut text)).await.expect("never closed");
        String::from_utf8(text).unwrap()
    }
}

/// Reads byte by byte, so that nothing after `end` is lost.
pub(crate) async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        while !text.ends_with(end.as_bytes()) {
            match stream.read_u8().await {
                Ok(byte) => text.push(byte),
                Err(_) => break,
            }
        }
    };
    timeout(DEADLINE, read).await.expect("nothing more came");
    // As in headers of old, each byte is a character.
    let text: String = text.into_iter().map(char::from).collect();
    assert!(text.ends_with(end), "the connection ended after {text:?}");
    text
}
