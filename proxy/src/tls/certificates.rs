//! Which certificate a client is shown.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use weir_config::{Certificate, Snapshots};

use super::provider;

/// The certificates of the served snapshot, ready for handshakes.
///
/// A client that names no host, or one that no certificate is for, is shown the first certificate:
/// its user then reads whose certificate that is, or our page, and not a bare handshake failure.
#[derive(Debug)]
pub(crate) struct Certificates(ArcSwap<Table>);

/// One `Arc<[Certificate]>`, compiled.
#[derive(Debug)]
struct Table {
    source: Arc<[Certificate]>,
    /// One for each of `source`; `None` for one that cannot be used.
    keys: Vec<Option<Arc<CertifiedKey>>>,
    /// By name; a wildcard's is its suffix with the dot.
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    wildcards: HashMap<Box<str>, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    pub(crate) fn new(source: &Arc<[Certificate]>) -> Self {
        Self(ArcSwap::from_pointee(Table::compile(source, &Table::default())))
    }

    /// Keeps to the served certificates for ever, a moment behind each publication.
    pub(crate) async fn follow(&self, snapshots: &Snapshots) {
        let mut snapshot = snapshots.current();
        loop {
            let source = snapshot.certificates.clone();
            let current = self.0.load_full();
            if !Arc::ptr_eq(&source, &current.source) {
                // Checking thousands of keys takes long enough to get in the way of requests.
                let compile = move || Table::compile(&source, &current);
                match tokio::task::spawn_blocking(compile).await {
                    Ok(table) => self.0.store(Arc::new(table)),
                    Err(error) => tracing::error!(%error, "certificates could not be swapped"),
                }
            }
            snapshot = snapshots.newer_than(snapshot.generation).await;
        }
    }

    /// Whether a connection made for `server_name` may carry a request to `host`: the certificate
    /// it was shown is the one it would be shown for `host`. Browsers share an HTTP/2 connection
    /// among all names of a certificate.
    pub(crate) fn same(&self, server_name: &str, host: &str) -> bool {
        let table = self.0.load();
        match (table.find(server_name), table.find(host)) {
            (Some(shown), Some(wanted)) => Arc::ptr_eq(shown, wanted),
            _ => true,
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.load();
        table.find(hello.server_name().unwrap_or_default()).cloned()
    }
}

impl Default for Table {
    fn default() -> Self {
        let (exact, wildcards) = (HashMap::new(), HashMap::new());
        Self { source: Arc::new([]), keys: Vec::new(), exact, wildcards, first: None }
    }
}

impl Table {
    /// Reads every certificate that `former` has not read already.
    fn compile(source: &Arc<[Certificate]>, former: &Self) -> Self {
        let known: HashMap<&str, (&Certificate, &Option<Arc<CertifiedKey>>)> = former
            .source
            .iter()
            .zip(&former.keys)
            .map(|(certificate, key)| (certificate.chain_pem.as_str(), (certificate, key)))
            .collect();
        let key = |certificate: &Certificate| match known.get(certificate.chain_pem.as_str()) {
            Some((same, key)) if same.key_pem == certificate.key_pem => (*key).clone(),
            _ => read(certificate),
        };
        let keys = source.iter().map(key).collect();
        let mut table = Self { source: source.clone(), keys, ..Self::default() };
        for (certificate, key) in source.iter().zip(&table.keys) {
            let Some(key) = key else { continue };
            for name in &certificate.names {
                let (names, name) = match name.strip_prefix('*') {
                    Some(suffix) => (&mut table.wildcards, suffix),
                    None => (&mut table.exact, &**name),
                };
                // They come in the order of preference.
                names.entry(name.into()).or_insert_with(|| key.clone());
            }
        }
        table.first = table.keys.iter().flatten().next().cloned();
        table
    }

    /// Its own name's, else its wildcard's (which covers one label), else the first.
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let wildcard = || self.wildcards.get(&name[name.find('.')?..]);
        self.exact.get(name).or_else(wildcard).or(self.first.as_ref())
    }
}

/// Reads PEM. What cannot be read is told and left out: the other names stay served.
fn read(certificate: &Certificate) -> Option<Arc<CertifiedKey>> {
    parse(certificate)
        .map(Arc::new)
        .inspect_err(|reason| {
            tracing::error!(names = ?certificate.names, reason, "a certificate cannot be used");
        })
        .ok()
}

fn parse(certificate: &Certificate) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("its chain is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("its chain is empty".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes())
        .map_err(|error| format!("its key is not PEM: {error}"))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| error.to_string())
}
