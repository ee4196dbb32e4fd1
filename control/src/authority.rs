//! The local certificate authority, so that HTTPS works from the first start.
//!
//! It is for the operator's own machines: they trust `ca.pem`, nobody else does.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use weir_config::{Certificate, Hostname};

use crate::{
    certificates::{Command, parse},
    state_dir::{StateDir, write_private},
};

/// The authority is asked to be trusted once.
const AUTHORITY_DAYS: i64 = 3650;
/// Longer than this is refused by browsers (the CA/Browser Forum's limit of 2020: 398 days).
const LEAF_DAYS: i64 = 397;
/// A leaf is made anew when less than this is left.
const RENEW_BEFORE_DAYS: i64 = 30;

const RENEWAL_LOOK: Duration = Duration::from_secs(12 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{file}: {error}")]
    File { file: PathBuf, error: io::Error },
    #[error("making a certificate failed: {0}")]
    Make(#[from] rcgen::Error),
    #[error("{file} is damaged: {reason}; move it away together with its .key for a new one")]
    Damaged { file: PathBuf, reason: String },
}

/// The certificate for the base domain and `*.` below it: kept, renewed or made, with its authority.
pub(crate) fn wildcard(dir: &StateDir, base: &Hostname) -> Result<Certificate, AuthorityError> {
    let names = vec![base.clone(), base.wildcard()];
    let (authority, is_fresh) = authority(dir)?;
    let (chain, key) = (dir.file("wildcard.pem"), dir.file("wildcard.key"));
    if let (Ok(chain_pem), Ok(key_pem)) = (fs::read_to_string(&chain), fs::read_to_string(&key))
        && !is_fresh
        && let Some(certificate) = kept(&chain_pem, &key_pem, &names)
    {
        return Ok(certificate);
    }
    let leaf_key = KeyPair::generate()?;
    let mut params =
        CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, &**base);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, LEAF_DAYS);
    let leaf = params.signed_by(&leaf_key, &authority)?;
    let (chain_pem, key_pem) = (leaf.pem(), leaf_key.serialize_pem());
    write(&key, &key_pem)?;
    write(&chain, &chain_pem)?;
    parse(&chain_pem, &key_pem)
        .map_err(|error| AuthorityError::Damaged { file: chain, reason: error.to_string() })
}

/// Looks now and then whether the certificate is to be renewed, until its keeper is gone.
pub(crate) async fn keep_renewed(
    dir: Arc<StateDir>,
    base: Hostname,
    mut current: Arc<Certificate>,
    keeper: mpsc::Sender<Command>,
) {
    loop {
        tokio::time::sleep(RENEWAL_LOOK).await;
        let (dir, base) = (dir.clone(), base.clone());
        match tokio::task::spawn_blocking(move || wildcard(&dir, &base)).await {
            Ok(Ok(renewed)) if renewed != *current => {
                current = Arc::new(renewed);
                if keeper.send(Command::LocalRenewed(current.clone())).await.is_err() {
                    return;
                }
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "the certificate could not be renewed"),
            Err(error) => tracing::error!(%error, "looking at the certificate failed"),
        }
    }
}

/// The kept authority, or a fresh one: then what its predecessor signed is of no use.
fn authority(dir: &StateDir) -> Result<(Issuer<'static, KeyPair>, bool), AuthorityError> {
    let (file, key_file) = (dir.file("ca.pem"), dir.file("ca.key"));
    if file.exists() && key_file.exists() {
        let read = |file: &PathBuf| {
            fs::read_to_string(file)
                .map_err(|error| AuthorityError::File { file: file.clone(), error })
        };
        let damaged = |file: &PathBuf| {
            let file = file.clone();
            move |error: rcgen::Error| AuthorityError::Damaged { file, reason: error.to_string() }
        };
        let key = KeyPair::from_pem(&read(&key_file)?).map_err(damaged(&key_file))?;
        let issuer = Issuer::from_ca_cert_pem(&read(&file)?, key).map_err(damaged(&file))?;
        return Ok((issuer, false));
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Weir local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, AUTHORITY_DAYS);
    let certificate = params.self_signed(&key)?;
    write(&key_file, &key.serialize_pem())?;
    write(&file, &certificate.pem())?;
    Ok((Issuer::new(params, key), true))
}

/// Signs what control and its devices show to each other.
pub(crate) struct DeviceAuthority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A device may be away for years, and its identity is looked up each time that it comes: what is
/// taken from it is taken at once, so there is nothing that an early end would add.
const DEVICE_DAYS: i64 = 20 * 365;
/// What control is called in its certificate, wherever it is reached: devices believe nobody else's
/// under this name.
const CONTROL_NAME: &str = "control.weir.internal";

impl DeviceAuthority {
    pub(crate) fn open(dir: &StateDir) -> Result<Self, AuthorityError> {
        let (issuer, _) = authority(dir)?;
        let file = dir.file("ca.pem");
        let pem =
            fs::read_to_string(&file).map_err(|error| AuthorityError::File { file, error })?;
        Ok(Self { issuer, pem })
    }

    /// A certificate of control itself and its key, both PEM.
    pub(crate) fn control(&self) -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([CONTROL_NAME.to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        validity(&mut params, LEAF_DAYS);
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// The certificate (PEM) that a device asks for, and the fingerprint of its key. Nothing but
    /// the key is taken from what it asks.
    pub(crate) fn device(&self, request: &str, name: &str) -> Result<String, AuthorityError> {
        let mut asked = CertificateSigningRequestParams::from_pem(request)?;
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        validity(&mut params, DEVICE_DAYS);
        asked.params = params;
        Ok(asked.signed_by(&self.issuer)?.pem())
    }

    /// The fingerprint of the key that a request for a certificate was signed with.
    pub(crate) fn fingerprint_of_request(request: &str) -> Result<String, AuthorityError> {
        let asked = CertificateSigningRequestParams::from_pem(request)?;
        Ok(fingerprint(&asked.public_key.subject_public_key_info()))
    }

    /// That of the key in a certificate (DER).
    pub(crate) fn fingerprint_of(certificate: &[u8]) -> Option<String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(fingerprint(parsed.public_key().raw))
    }
}

fn fingerprint(public_key_info: &[u8]) -> String {
    Sha256::digest(public_key_info).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Valid from an hour ago, for clients whose clock is behind.
fn validity(params: &mut CertificateParams, days: i64) {
    let now = Timestamp::now().as_second();
    let at = |seconds: i64| {
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds.max(0) as u64)
    };
    params.not_before = at(now - SignedDuration::from_hours(1).as_secs());
    params.not_after = at(now + SignedDuration::from_hours(24 * days).as_secs());
}

/// A kept certificate, if it is for these names and will be valid for a while.
fn kept(chain_pem: &str, key_pem: &str, names: &[Hostname]) -> Option<Certificate> {
    let certificate = parse(chain_pem, key_pem).ok()?;
    let left = certificate.valid.1 - Timestamp::now().as_second();
    let is_for_all = names.iter().all(|name| certificate.names.contains(name));
    (left > RENEW_BEFORE_DAYS * 24 * 3600 && is_for_all).then_some(certificate)
}

fn write(file: &std::path::Path, text: &str) -> Result<(), AuthorityError> {
    write_private(file, text.as_bytes())
        .map_err(|error| AuthorityError::File { file: file.to_owned(), error })
}
