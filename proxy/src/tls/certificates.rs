//! Which certificate a client is shown.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use weir_config::{Certificate, Snapshots};

use super::provider;

/// The certificates of the served snapshot, ready for handshakes.
///
/// A key is read by the first client that needs it, within some ten microseconds, and kept while
/// others ask for it: of very many certificates few are asked for. Those whose places collide take
/// turns in being read again, so that memory is bounded and nobody waits.
pub(crate) struct Certificates {
    snapshots: Snapshots,
    places: Box<[ArcSwapOption<Ready>]>,
    hasher: RandomState,
}

/// A certificate with its key read; `None` for one that cannot be used.
struct Ready {
    source: Arc<Certificate>,
    key: Option<Arc<CertifiedKey>>,
}

/// Of some 4 KB each.
const PLACES: usize = 8192;

impl Certificates {
    pub(crate) fn new(snapshots: Snapshots) -> Self {
        let places = (0..PLACES).map(|_| ArcSwapOption::empty()).collect();
        Self { snapshots, places, hasher: RandomState::new() }
    }

    /// Whether a connection made for `server_name` may carry a request to `host`: the certificate
    /// it was shown is the one it would be shown for `host`. Browsers share an HTTP/2 connection
    /// among all names of a certificate.
    pub(crate) fn same(&self, server_name: &str, host: &str) -> bool {
        let snapshot = self.snapshots.current();
        let all = &snapshot.certificates;
        let shown = |name| all.find(name).or_else(|| all.fallback());
        match (shown(server_name), shown(host)) {
            (Some(shown), Some(wanted)) => Arc::ptr_eq(shown, wanted),
            _ => true,
        }
    }

    /// The name's own, else the fallback; also where the name's own cannot be read.
    fn shown(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.snapshots.current();
        let all = &snapshot.certificates;
        let ready = |certificate| self.ready(certificate);
        all.find(name).and_then(ready).or_else(|| all.fallback().and_then(ready))
    }

    fn ready(&self, certificate: &Arc<Certificate>) -> Option<Arc<CertifiedKey>> {
        let place = self.hasher.hash_one(Arc::as_ptr(certificate)) as usize % PLACES;
        let place = &self.places[place];
        if let Some(ready) = &*place.load()
            && Arc::ptr_eq(&ready.source, certificate)
        {
            return ready.key.clone();
        }
        let key = read(certificate);
        place.store(Some(Arc::new(Ready { source: certificate.clone(), key: key.clone() })));
        key
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown(hello.server_name().unwrap_or_default())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

/// What cannot be read is told and left out: the other names stay served.
fn read(certificate: &Certificate) -> Option<Arc<CertifiedKey>> {
    parse(certificate)
        .map(Arc::new)
        .inspect_err(|reason| {
            tracing::error!(names = ?certificate.names, reason, "a certificate cannot be used");
        })
        .ok()
}

/// That of a certificate which only an authority is shown. It is not checked: it has a critical
/// extension that nobody else knows (RFC 8737, 3).
pub(super) fn of_challenge(certificate: &Certificate) -> Option<CertifiedKey> {
    let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = PrivateKeyDer::try_from(certificate.key.to_vec()).ok()?;
    let key = provider().key_provider.load_private_key(key).ok()?;
    Some(CertifiedKey::new(chain, key))
}

fn parse(certificate: &Certificate) -> Result<CertifiedKey, String> {
    if certificate.chain.is_empty() {
        return Err("its chain is empty".to_owned());
    }
    let der = |der: &Arc<[u8]>| CertificateDer::from(der.to_vec());
    let chain = certificate.chain.iter().map(der).collect();
    let key = PrivateKeyDer::try_from(certificate.key.to_vec()).map_err(str::to_owned)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| error.to_string())
}
