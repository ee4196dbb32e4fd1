//! The handshake with a client.

use std::{io, net::IpAddr, sync::Arc};

use rustls::{
    ConfigBuilder, ServerConfig, WantsVerifier,
    server::{ClientHello, NoServerSessionStorage, WantsServerCert},
    sign::SingleCertAndKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use weir_config::{ClientAuth, Snapshots};

use super::{
    Certificates, ClientCertificate, EarlyWake, Tickets, certificates,
    client_auth::{BadClientAuth, ClientAuthConfigs},
    provider,
};

/// Makes TLS connections out of bare ones. Cheap to clone.
///
/// The handshake has no deadline here: whoever accepts connections bounds the whole of it.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    snapshots: Snapshots,
    /// Of every host that asks for no client certificate.
    common: Arc<ServerConfig>,
    client_auth: ClientAuthConfigs,
    early_wake: Arc<EarlyWake>,
}

/// What an authority asks for that looks whether a host name is ours, and nobody else (RFC 8737).
const ACME: &[u8] = b"acme-tls/1";

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Accepted<S> {
    pub(crate) stream: TlsStream<S>,
    /// The name that the client asked for, lowercase.
    pub(crate) server_name: Option<Box<str>>,
    /// What the client was asked to prove; a host that asks for something else is not served over
    /// this connection.
    pub(crate) client_auth: Option<ClientAuth>,
    /// What it proved. There is none unless it was asked, and then only if it may be without.
    pub(crate) client_certificate: Option<ClientCertificate>,
}

/// A connection that did not become a TLS connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    /// Also what a client meets that speaks no TLS, or goes away.
    #[error("no TLS handshake was begun: {0}")]
    Hello(io::Error),
    #[error(transparent)]
    ClientAuth(#[from] BadClientAuth),
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// It has ended as it should.
    #[error("an authority was shown what it looks for")]
    Challenge,
}

/// Tickets for a client that does not say how many it wants (RFC 9149). One is enough to come back
/// with, and each connection brings the next one; a second would cost 190 bytes and 2.5 µs.
const TICKETS: usize = 1;
const MAX_TICKETS: usize = 4;

impl Acceptor {
    pub(crate) fn new(
        snapshots: Snapshots,
        certificates: Arc<Certificates>,
        tickets: Tickets,
        early_wake: Arc<EarlyWake>,
    ) -> Result<Self, rustls::Error> {
        let mut common = config(builder()?.with_no_client_auth(), certificates.clone());
        common.ticketer = Arc::new(tickets);
        common.send_tls13_tickets = TICKETS;
        common.max_tls13_tickets = MAX_TICKETS;
        let client_auth = ClientAuthConfigs::new(certificates);
        Ok(Self(Arc::new(Inner { snapshots, common: Arc::new(common), client_auth, early_wake })))
    }

    /// Makes the whole handshake, as the host that the client asks for wants it.
    pub(crate) async fn accept<S>(
        &self,
        stream: S,
        client: IpAddr,
    ) -> Result<Accepted<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        // Apart, because a handshake's state is large and a connection lives much longer than it.
        Box::pin(self.0.accept(stream, client)).await
    }
}

impl Inner {
    async fn accept<S>(&self, stream: S, client: IpAddr) -> Result<Accepted<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        let start = start.await.map_err(AcceptError::Hello)?;
        let server_name = start.client_hello().server_name().map(Box::<str>::from);
        let challenge = self.challenge(&start.client_hello());
        if let Some(config) = challenge {
            start.into_stream(config).await.map_err(AcceptError::Handshake)?;
            return Err(AcceptError::Challenge);
        }
        let (config, client_auth) = match &server_name {
            Some(name) => self.hello(name, client)?,
            None => (self.common.clone(), None),
        };
        let stream = start.into_stream(config).await.map_err(AcceptError::Handshake)?;
        let (_, connection) = stream.get_ref();
        let client_certificate =
            connection.peer_certificates().and_then(<[_]>::first).and_then(ClientCertificate::new);
        Ok(Accepted { stream, server_name, client_auth, client_certificate })
    }

    /// The handshake with an authority that looks for what it has asked for.
    fn challenge(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut protocols = hello.alpn()?;
        if protocols.next() != Some(ACME) || protocols.next().is_some() {
            return None;
        }
        let snapshot = self.snapshots.current();
        let certificate = snapshot.tls_challenges.get(hello.server_name()?)?;
        let only = SingleCertAndKey::from(certificates::of_challenge(certificate)?);
        let mut config = builder().ok()?.with_no_client_auth().with_cert_resolver(Arc::new(only));
        config.alpn_protocols = vec![ACME.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Some(Arc::new(config))
    }

    /// The handshake that the host wants, and a head start for its app.
    fn hello(
        &self,
        server_name: &str,
        client: IpAddr,
    ) -> Result<(Arc<ServerConfig>, Option<ClientAuth>), BadClientAuth> {
        let snapshot = self.snapshots.current();
        if let Some((route, auth)) = snapshot.client_auth(server_name) {
            return Ok((self.client_auth.config(route, auth)?, Some(auth.clone())));
        }
        // Not above: a client that has yet to prove who it is wakes nothing.
        if let Some(route) = snapshot.route(server_name, "/") {
            self.early_wake.hello(client, route);
        }
        Ok((self.common.clone(), None))
    }
}

pub(super) fn builder() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, rustls::Error> {
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

/// What all connections have in common: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1, no early data
/// (which anyone may replay), and no session kept here.
pub(super) fn config(
    builder: ConfigBuilder<ServerConfig, WantsServerCert>,
    certificates: Arc<Certificates>,
) -> ServerConfig {
    let mut config = builder.with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}
