//! TLS to control, on both sides proved by certificates of control's own authority.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
};
use sha2::{Digest, Sha256};
use tokio_rustls::{TlsConnector, client::TlsStream};
use weir_deploy::Duplex;

use crate::identity::Identity;

/// What control's certificate says whatever its address is: the authority signs nobody else's for
/// this name.
const CONTROL: &str = "control.weir.internal";

type Stream = TlsStream<Box<dyn Duplex>>;

/// Connects as who this device is.
pub(crate) async fn connect(
    identity: &Identity,
    key_pem: &str,
    stream: Box<dyn Duplex>,
) -> io::Result<Stream> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(identity.authority.as_bytes());
    roots.add(authority.map_err(io::Error::other)?).map_err(io::Error::other)?;
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(io::Error::other)?;
    let clock = Arc::new(Clock { not_before: identity.not_before });
    let config = ClientConfig::builder_with_details(provider(), clock)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate.map_err(io::Error::other)?], key)
        .map_err(io::Error::other)?;
    handshake(config, stream).await
}

/// Connects to be enrolled, trusting nobody but the authority of which the invitation tells.
pub(crate) async fn connect_new(
    authority: [u8; 32],
    stream: Box<dyn Duplex>,
) -> io::Result<Stream> {
    let provider = provider();
    let verifier = Arc::new(Pinned { authority, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    handshake(config, stream).await
}

async fn handshake(config: ClientConfig, stream: Box<dyn Duplex>) -> io::Result<Stream> {
    let name = ServerName::try_from(CONTROL).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The clock of a device, which may stand at 1970 after each power cut.
#[derive(Debug)]
struct Clock {
    not_before: i64,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let known = Duration::from_millis(self.not_before.max(0) as u64);
        Some(UnixTime::since_unix_epoch(known).max(UnixTime::now()))
    }
}

/// Believes who shows a certificate of the authority with this hash (SHA-256).
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_pinned = |shown: &&CertificateDer<'_>| Sha256::digest(shown)[..] == self.authority;
        let Some(authority) = intermediates.iter().find(is_pinned) else {
            return Err(rustls::Error::General(
                "whoever answers there is not who made the invitation".to_owned(),
            ));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = self.provider.clone();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        // A new device may have no clock yet; what it shows is of the authority all the same.
        let now = not_before(end_entity).map_or(now, |since| since.max(now));
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Since when a certificate is valid.
fn not_before(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let since = parsed.validity().not_before.timestamp().max(0) as u64;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(since)))
}
