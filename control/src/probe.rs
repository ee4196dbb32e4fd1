//! One health check of an endpoint, which is reached as the proxy reaches it: by the same version of
//! HTTP, with the same trust, behind the same header.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, LazyLock},
};

use futures::future::{Either, select};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::{
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use weir_config::{Hostname, Probe, ProxyProtocol, Upstream, UpstreamProtocol, UpstreamTls};
use weir_deploy::{Duplex, Provider};

/// What an endpoint is asked, made ready once for all its checks.
pub(crate) enum Question {
    Tcp,
    /// `host` is whom it is asked as, if that is not the endpoint itself.
    Http {
        path: String,
        upstream: Upstream,
        tls: Option<Tls>,
        host: Option<Hostname>,
    },
}

/// Whom to believe that he is who.
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

type Failure = Box<dyn Error + Send + Sync>;
type Response = http::Response<Incoming>;

impl Question {
    /// # Errors
    /// Why it can never be asked.
    pub(crate) fn new(probe: &Probe) -> Result<Self, String> {
        let Probe::Http { path, upstream } = probe else { return Ok(Self::Tcp) };
        let tls = upstream.tls.as_ref().map(|tls| Tls::new(tls, upstream.protocol)).transpose();
        let tls = tls.map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(Self::Http { path: path.clone(), upstream: upstream.clone(), tls, host: None })
    }

    /// What is asked of one of those that serve a host name.
    ///
    /// # Errors
    /// Why it can never be asked.
    pub(crate) fn of_host(path: &str, host: &Hostname, is_tls: bool) -> Result<Self, String> {
        let tls = is_tls.then(|| UpstreamTls { server_name: host.clone(), roots: None });
        let upstream = Upstream { tls, ..Upstream::default() };
        let question = Self::new(&Probe::Http { path: path.to_owned(), upstream })?;
        Ok(match question {
            Self::Http { path, upstream, tls, .. } => {
                Self::Http { path, upstream, tls, host: Some(host.clone()) }
            }
            Self::Tcp => question,
        })
    }

    /// Asks once, for as long as it takes. `host` is the one that the address is on, if that is one
    /// of ours.
    pub(crate) async fn ask(
        &self,
        address: SocketAddr,
        host: Option<&dyn Provider>,
    ) -> Result<(), String> {
        let stream = connect(address, host);
        match self {
            Self::Tcp => {
                stream.await.map(drop).map_err(|error| format!("connecting to {address}: {error}"))
            }
            Self::Http { path, upstream, tls, host } => {
                let asked_as = match (host, &upstream.tls) {
                    (Some(host), _) => host.to_string(),
                    (None, Some(tls)) => tls.server_name.to_string(),
                    (None, None) => address.to_string(),
                };
                let answer = get(stream, &asked_as, path, upstream, tls.as_ref()).await;
                let outcome = match answer {
                    Ok(status) if status.is_success() || status.is_redirection() => return Ok(()),
                    Ok(status) => status.to_string(),
                    Err(error) => root_cause(&*error),
                };
                Err(format!("GET {path} on {address}: {outcome}"))
            }
        }
    }
}

impl Tls {
    fn new(tls: &UpstreamTls, protocol: UpstreamProtocol) -> Result<Self, Failure> {
        let roots = match &tls.roots {
            None => PUBLIC.clone(),
            Some(own) => {
                let mut roots = RootCertStore::empty();
                for root in own.certificates().iter() {
                    roots.add(CertificateDer::from(root.to_vec()))?;
                }
                Arc::new(roots)
            }
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![match protocol {
            UpstreamProtocol::Http1 => b"http/1.1".to_vec(),
            UpstreamProtocol::Http2 => b"h2".to_vec(),
        }];
        let name = ServerName::try_from(tls.server_name.to_string())?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

/// The authorities that the system trusts, read once.
static PUBLIC: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

async fn connect(address: SocketAddr, host: Option<&dyn Provider>) -> io::Result<Box<dyn Duplex>> {
    let Some(host) = host else {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        return Ok(Box::new(tcp));
    };
    host.dial(address).await
}

async fn get(
    stream: impl Future<Output = io::Result<Box<dyn Duplex>>>,
    host: &str,
    path: &str,
    upstream: &Upstream,
    tls: Option<&Tls>,
) -> Result<StatusCode, Failure> {
    let mut stream = stream.await?;
    if let Some(version) = upstream.proxy_protocol {
        stream.write_all(nobody(version)).await?;
    }
    match tls {
        None => send(stream, upstream.protocol, "http", host, path).await,
        Some(tls) => {
            let stream = tls.connector.connect(tls.name.clone(), stream).await?;
            send(stream, upstream.protocol, "https", host, path).await
        }
    }
}

async fn send<S>(
    stream: S,
    protocol: UpstreamProtocol,
    scheme: &str,
    host: &str,
    path: &str,
) -> Result<StatusCode, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(match protocol {
        UpstreamProtocol::Http1 => path.to_owned(),
        UpstreamProtocol::Http2 => format!("{scheme}://{host}{path}"),
    });
    let request = request.header(header::USER_AGENT, "weir-health-check");
    let (stream, body) = (TokioIo::new(stream), Empty::<Bytes>::new());
    let response = match protocol {
        UpstreamProtocol::Http1 => {
            let (mut sender, connection) = http1::handshake(stream).await?;
            let request = request.header(header::HOST, host).body(body)?;
            carry(sender.send_request(request), connection).await?
        }
        UpstreamProtocol::Http2 => {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            carry(sender.send_request(request.body(body)?), connection).await?
        }
    };
    Ok(response.status())
}

/// The answer to a request, while its connection is driven, and no longer.
async fn carry(
    answer: impl Future<Output = hyper::Result<Response>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<Response> {
    match select(pin!(answer), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // It was closed, perhaps after the answer.
        Either::Right((_, answer)) => answer.await,
    }
}

/// The header of the PROXY protocol of a connection that is nobody's: a proxy's own.
fn nobody(version: ProxyProtocol) -> &'static [u8] {
    match version {
        ProxyProtocol::V1 => b"PROXY UNKNOWN\r\n",
        ProxyProtocol::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::Request, http::Version, response::IntoResponse, serve::Listener};
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
    use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
    use tokio::{io::AsyncReadExt, net::TcpListener};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const NAME: &str = "backend.internal";

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
    impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

    /// Takes connections that begin as they should, and no others.
    struct Strict {
        tcp: TcpListener,
        begin: &'static [u8],
        tls: Option<TlsAcceptor>,
    }

    impl Strict {
        async fn greet(&self) -> io::Result<Box<dyn Io>> {
            let (mut tcp, _) = self.tcp.accept().await?;
            let mut begin = vec![0; self.begin.len()];
            tcp.read_exact(&mut begin).await?;
            match &self.tls {
                _ if begin != self.begin => Err(io::ErrorKind::InvalidData.into()),
                None => Ok(Box::new(tcp)),
                Some(tls) => Ok(Box::new(tls.accept(tcp).await?)),
            }
        }
    }

    impl Listener for Strict {
        type Io = Box<dyn Io>;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (Self::Io, SocketAddr) {
            loop {
                if let Ok(stream) = self.greet().await {
                    return (stream, self.tcp.local_addr().unwrap());
                }
            }
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.tcp.local_addr()
        }
    }

    /// A server that is to be reached in this way alone, with a certificate of this authority.
    async fn serve(upstream: &Upstream, ca: &Ca) -> SocketAddr {
        let tls = upstream.tls.is_some().then(|| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([NAME.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, ca).unwrap();
            let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let begin = match upstream.proxy_protocol {
            None => &b""[..],
            Some(ProxyProtocol::V1) => b"PROXY UNKNOWN\r\n",
            Some(ProxyProtocol::V2) => &[
                0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x20, 0x00,
                0x00, 0x00,
            ],
        };
        let version = match upstream.protocol {
            UpstreamProtocol::Http1 => Version::HTTP_11,
            UpstreamProtocol::Http2 => Version::HTTP_2,
        };
        let answer = async move |request: Request| {
            let right = request.version() == version && request.uri().path() == "/healthz";
            let status = if right { StatusCode::OK } else { StatusCode::IM_A_TEAPOT };
            status.into_response()
        };
        let strict = Strict { tcp, begin, tls };
        tokio::spawn(axum::serve(strict, Router::new().fallback(answer)).into_future());
        address
    }

    async fn ask(address: SocketAddr, upstream: &Upstream) -> Result<(), String> {
        let probe = Probe::Http { path: "/healthz".to_owned(), upstream: upstream.clone() };
        let question = Question::new(&probe).unwrap();
        let asked =
            tokio::time::timeout(std::time::Duration::from_secs(20), question.ask(address, None));
        asked.await.expect("no answer")
    }

    fn tls(name: &str, ca: &Ca) -> Option<UpstreamTls> {
        let roots = Some([Arc::from(&**ca.der())].into_iter().collect());
        Some(UpstreamTls { server_name: name.parse().unwrap(), roots })
    }

    #[tokio::test]
    async fn an_endpoint_is_asked_in_the_way_that_requests_reach_it() {
        let ca = ca();
        for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
            for proxy_protocol in [None, Some(ProxyProtocol::V1), Some(ProxyProtocol::V2)] {
                for tls in [None, tls(NAME, &ca)] {
                    let upstream = Upstream { protocol, tls, proxy_protocol };
                    let address = serve(&upstream, &ca).await;
                    assert_eq!(ask(address, &upstream).await, Ok(()), "{upstream:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn one_that_does_not_prove_who_it_is_does_not_pass() {
        let (ca, other) = (ca(), ca());
        let secure = |tls| Upstream { tls, ..Upstream::default() };
        let address = serve(&secure(tls(NAME, &ca)), &ca).await;
        for (upstream, why) in [
            (secure(tls(NAME, &other)), "invalid peer certificate: BadSignature"),
            (secure(tls("other.internal", &ca)), "not valid for name"),
            (secure(tls(NAME, &ca).map(|tls| UpstreamTls { roots: None, ..tls })), "UnknownIssuer"),
        ] {
            let error = ask(address, &upstream).await.unwrap_err();
            assert!(error.starts_with("GET /healthz on 127.0.0.1:"), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
