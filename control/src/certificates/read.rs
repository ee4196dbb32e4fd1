//! What a certificate says of itself, and whether clients could be shown it.

use std::{io::Write, sync::Arc};

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use weir_config::{Certificate, Hostname};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, oid_registry::Oid, prelude::FromDer,
};

/// More are a mistake.
const MAX_CHAIN: usize = 10;
/// Of one certificate; Let's Encrypt's limit is 100.
const MAX_NAMES: usize = 200;
/// The TLS feature extension (RFC 7633).
const TLS_FEATURE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 24];

/// Why a certificate cannot be shown to clients.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadCertificate {
    #[error("{0}; write PEM, the certificate itself first and then its authorities")]
    Pem(String),
    #[error("certificate {place} of the chain cannot be read: {why}")]
    Der { place: usize, why: String },
    #[error("the chain has {0} certificates; write the certificate and its authorities only")]
    TooLong(usize),
    #[error("it is for no host name; its subject alternative names must have one")]
    NoNames,
    #[error("it is for more than {MAX_NAMES} names")]
    TooManyNames,
    #[error("the key is not the one that the certificate is of, or cannot be used: {0}")]
    Key(String),
    #[error(
        "it demands a stapled OCSP answer (must-staple), which Weir does not give, because \
         authorities no longer do; order it without"
    )]
    MustStaple,
    #[error("it has ended, on {0}")]
    Ended(String),
    #[error(
        "its chain does not hold: {0}; the certificate comes first, then who signed it, and so on"
    )]
    Chain(String),
}

/// Reads a chain and its key, both PEM, and checks everything that a client would find out.
/// `now` is in seconds since 1970.
pub(crate) fn read(
    chain_pem: &str,
    key_pem: &str,
    now: i64,
) -> Result<Certificate, BadCertificate> {
    let read = parse(chain_pem, key_pem)?;
    if read.valid.1 <= now {
        return Err(BadCertificate::Ended(crate::time::rfc3339(read.valid.1 * 1000)));
    }
    check_key(&read)?;
    check_chain(&read, now)?;
    Ok(read)
}

/// Reads what was checked when it came.
pub(crate) fn parse(chain_pem: &str, key_pem: &str) -> Result<Certificate, BadCertificate> {
    let mut read = Certificate::from_pem([], chain_pem, key_pem, (0, 0))
        .map_err(|error| BadCertificate::Pem(error.to_string()))?;
    if read.chain.len() > MAX_CHAIN {
        return Err(BadCertificate::TooLong(read.chain.len()));
    }
    let unreadable = |place: usize| {
        move |error: &dyn std::fmt::Display| BadCertificate::Der { place, why: error.to_string() }
    };
    for (i, der) in read.chain.iter().enumerate().skip(1) {
        X509Certificate::from_der(der).map_err(|error| unreadable(i + 1)(&error))?;
    }
    let leaf = read.chain[0].clone();
    let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|error| unreadable(1)(&error))?;
    read.names = names(&parsed).map_err(|error| unreadable(1)(&error))?;
    match read.names.len() {
        0 => return Err(BadCertificate::NoNames),
        many if many > MAX_NAMES => return Err(BadCertificate::TooManyNames),
        _ => {}
    }
    if parsed.extensions().iter().any(|extension| Some(&extension.oid) == tls_feature().as_ref()) {
        return Err(BadCertificate::MustStaple);
    }
    let validity = parsed.validity();
    read.valid = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok(read)
}

/// Whether the key is there, can be used, and is the certificate's.
pub(crate) fn check_key(certificate: &Certificate) -> Result<(), BadCertificate> {
    let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = PrivateKeyDer::try_from(certificate.key.to_vec());
    let key = key.map_err(|why| BadCertificate::Key(why.to_owned()))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map(|_| ())
        .map_err(|error| BadCertificate::Key(error.to_string()))
}

/// Whether each certificate is signed by the next one. Of a certificate that comes alone nothing is
/// known.
fn check_chain(certificate: &Certificate, now: i64) -> Result<(), BadCertificate> {
    let [leaf, between @ .., top] = &*certificate.chain else { return Ok(()) };
    let der = |der: &Arc<[u8]>| CertificateDer::from(der.to_vec());
    let bad = |error: &dyn std::fmt::Display| BadCertificate::Chain(error.to_string());
    for (i, pair) in certificate.chain.windows(2).enumerate() {
        let parsed = |der| X509Certificate::from_der(der).map_err(|error| bad(&error));
        let ((_, one), (_, next)) = (parsed(&pair[0])?, parsed(&pair[1])?);
        if one.issuer().as_raw() != next.subject().as_raw() {
            let (place, issuer) = (i + 2, one.issuer());
            return Err(BadCertificate::Chain(format!("certificate {place} should be {issuer}")));
        }
    }
    let mut roots = RootCertStore::empty();
    roots.add(der(top)).map_err(|error| bad(&error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| bad(&error))?;
    let name = certificate.names[0].replace('*', "any");
    let name = ServerName::try_from(name).map_err(|error| bad(&error))?;
    let between: Vec<_> = between.iter().map(der).collect();
    // One that begins tomorrow may be uploaded today.
    let at = now.max(certificate.valid.0).max(0) as u64;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
    let verified = verifier.verify_server_cert(&der(leaf), &between, &name, &[], at);
    verified.map(|_| ()).map_err(|error| bad(&error))
}

fn names(parsed: &X509Certificate<'_>) -> Result<Box<[Hostname]>, x509_parser::error::X509Error> {
    let Some(found) = parsed.subject_alternative_name()? else { return Ok(Box::default()) };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) => text.parse().ok(),
        _ => None,
    };
    Ok(found.value.general_names.iter().filter_map(name).collect())
}

fn tls_feature() -> Option<Oid<'static>> {
    Oid::from(TLS_FEATURE).ok()
}

/// A chain as PEM, in lines of 64 characters (RFC 7468).
pub(super) fn chain_pem(certificate: &Certificate) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let mut pem = Vec::new();
    for der in &certificate.chain {
        pem.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        for line in BASE64_STANDARD.encode(der).as_bytes().chunks(64) {
            pem.extend_from_slice(line);
            pem.push(b'\n');
        }
        // Writing to a vector cannot fail.
        let _ = pem.write_all(b"-----END CERTIFICATE-----\n");
    }
    String::from_utf8(pem).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair,
    };

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn authority(
        signed_by: Option<&CertifiedIssuer<'static, KeyPair>>,
    ) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, format!("{:?}", key.public_key_raw()[..8].to_vec()));
        match signed_by {
            None => CertifiedIssuer::self_signed(params, key).unwrap(),
            Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer).unwrap(),
        }
    }

    /// A leaf of `names`, changed at will, with its key.
    fn leaf(
        issuer: &CertifiedIssuer<'static, KeyPair>,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_whole_chain_is_read_and_written_as_it_was() {
        let root = authority(None);
        let between = authority(Some(&root));
        let (own, key) = leaf(&between, &["*.a.test", "a.test"], |_| {});
        let chain = [own, between.pem(), root.pem()].concat().replace("\r\n", "\n");
        let read = read(&chain, &key, NOW).unwrap();
        let names: Vec<_> = read.names.iter().map(|name| &**name).collect();
        assert_eq!(names, ["*.a.test", "a.test"]);
        assert_eq!(chain_pem(&read), chain);
        assert!(read.valid.0 < NOW && NOW < read.valid.1);
    }

    #[test]
    fn what_clients_would_refuse_is_refused_with_the_reason() {
        let (root, other) = (authority(None), authority(None));
        let between = authority(Some(&root));
        let plain = leaf(&between, &["a.test"], |_| {});
        let with = |chain: &[&str], key: &str| read(&chain.concat(), key, NOW).unwrap_err();
        let whole =
            |leaf: &(String, String)| with(&[&leaf.0, &between.pem(), &root.pem()], &leaf.1);

        assert!(matches!(with(&["garbage"], &plain.1), BadCertificate::Pem(_)));
        assert!(matches!(with(&[&plain.0], "garbage"), BadCertificate::Pem(_)));
        let foreign = leaf(&between, &["a.test"], |_| {}).1;
        assert!(matches!(with(&[&plain.0], &foreign), BadCertificate::Key(_)));
        let nameless = leaf(&between, &[], |_| {});
        assert_eq!(whole(&nameless), BadCertificate::NoNames);
        let ended = leaf(&between, &["a.test"], |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert!(matches!(whole(&ended), BadCertificate::Ended(_)));
        // status_request is 5.
        let feature = || CustomExtension::from_oid_content(TLS_FEATURE, vec![0x30, 3, 2, 1, 5]);
        let staple = leaf(&between, &["a.test"], |p| p.custom_extensions.push(feature()));
        assert_eq!(whole(&staple), BadCertificate::MustStaple);
        let wrong_order = with(&[&plain.0, &root.pem(), &between.pem()], &plain.1);
        let stranger = with(&[&plain.0, &other.pem()], &plain.1);
        for wrong in [wrong_order, stranger] {
            assert!(matches!(wrong, BadCertificate::Chain(_)), "{wrong:?}");
        }
        let long = vec![&*plain.0; MAX_CHAIN + 1];
        assert_eq!(with(&long, &plain.1), BadCertificate::TooLong(MAX_CHAIN + 1));
    }
}
