//! The server's side of a TLS handshake.

use std::{io, net::IpAddr, sync::Arc};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::tls::Certificates;

/// Makes TLS connections of TCP connections.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

/// A connection after its handshake.
pub(crate) struct Accepted<S> {
    pub(crate) stream: TlsStream<S>,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) client_certificate: Option<ClientCertificate>,
}

/// Whom a verified certificate of a client names.
#[derive(Clone, Debug)]
pub(crate) struct ClientCertificate;

/// A handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Acceptor {
    pub(crate) fn new(certificates: Arc<Certificates>) -> Self {
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(TlsAcceptor::from(Arc::new(config)))
    }

    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: S,
        _client: IpAddr,
    ) -> Result<Accepted<S>, AcceptError> {
        let stream = self.0.accept(stream).await?;
        let server_name = stream.get_ref().1.server_name().map(Box::from);
        Ok(Accepted { stream, server_name, client_certificate: None })
    }
}
