//! TLS to control, on both sides proved by certificates of control's own authority.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
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
    let authority = CertificateDer::from_pem_slice(identity.authority.as_bytes());
    let authority = Sha256::digest(authority.map_err(io::Error::other)?).into();
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(io::Error::other)?;
    let known = Duration::from_millis(identity.not_before.max(0) as u64);
    let config = config(authority, UnixTime::since_unix_epoch(known))?
        .with_client_auth_cert(vec![certificate.map_err(io::Error::other)?], key)
        .map_err(io::Error::other)?;
    handshake(config, stream).await
}

/// Connects to be enrolled, trusting nobody but the authority of which the invitation tells.
pub(crate) async fn connect_new(
    authority: [u8; 32],
    stream: Box<dyn Duplex>,
) -> io::Result<Stream> {
    let known = UnixTime::since_unix_epoch(Duration::ZERO);
    handshake(config(authority, known)?.with_no_client_auth(), stream).await
}

fn config(
    authority: [u8; 32],
    not_before: UnixTime,
) -> io::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Pinned { authority, not_before, provider: provider.clone() });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

async fn handshake(config: ClientConfig, stream: Box<dyn Duplex>) -> io::Result<Stream> {
    let name = ServerName::try_from(CONTROL).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Believes who shows a certificate of the authority with this hash (SHA-256).
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
    /// It is no earlier than this, whatever the clock says.
    not_before: UnixTime,
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
        // The clock may stand at 1970 after each power cut. What the authority has signed is no
        // earlier than it says; that it has not ended is seen by what else is known of the time.
        let now = not_before(end_entity).map_or(now, |since| since.max(now)).max(self.not_before);
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::transport::Way;

    const DAY: i64 = 24 * 3600;

    /// Whether a device connects that knows it to be no earlier than in so many days from now, to a
    /// control whose certificate is valid from then until then.
    async fn connects(known: i64, valid: (i64, i64)) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = now.as_secs() as i64;
        let at = |days: i64| {
            let since = Duration::from_secs((now + days * DAY) as u64);
            rcgen::date_time_ymd(1970, 1, 1) + since
        };
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let mut leaf = CertificateParams::new([CONTROL.to_owned()]).unwrap();
        (leaf.not_before, leaf.not_after) = (at(valid.0), at(valid.1));
        let chain = vec![
            leaf.signed_by(&key, &issuer).unwrap().der().clone(),
            ca_certificate.der().clone(),
        ];
        let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let device_key = KeyPair::generate().unwrap();
        let device = CertificateParams::new([]).unwrap().signed_by(&device_key, &issuer).unwrap();
        let identity = Identity {
            name: "pi".parse().unwrap(),
            control: "control:1".to_owned(),
            transport: Way::Network,
            certificate: device.pem(),
            authority: ca_certificate.pem(),
            cluster: String::new(),
            not_before: (now + known * DAY) * 1000,
        };
        let (here, there) = tokio::io::duplex(64 << 10);
        let accepted = TlsAcceptor::from(Arc::new(server)).accept(there);
        let key_pem = device_key.serialize_pem();
        let (connected, _) = tokio::join!(connect(&identity, &key_pem, Box::new(here)), accepted);
        connected.is_ok()
    }

    #[tokio::test]
    async fn a_clock_that_is_behind_keeps_no_device_from_a_control_that_has_started_anew() {
        for (known, valid, is_good) in [
            (-1, (-2, 30), true),
            // Made when the device believes that it is earlier.
            (-1, (1, 30), true),
            // Ended, as the clock says, or what is known although the clock is behind.
            (-1, (-30, -1), false),
            (31, (-2, 30), false),
        ] {
            assert_eq!(connects(known, valid).await, is_good, "{known} {valid:?}");
        }
    }
}
