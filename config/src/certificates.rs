//! Certificates as they are shown to clients, by the names that they are for.

use std::{fmt, io, sync::Arc};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{Hostname, host_table::HostTable};

/// A certificate chain with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Those that it is shown for, which may be wildcards of one label.
    pub names: Box<[Hostname]>,
    /// DER, the certificate itself first. Authorities are many certificates' own, so they are shared.
    pub chain: Box<[Arc<[u8]>]>,
    /// DER: PKCS #8, PKCS #1 or SEC1.
    pub key: Zeroizing<Box<[u8]>>,
    /// When it begins and ends to be valid, in seconds since 1970.
    pub valid: (i64, i64),
}

impl Certificate {
    /// Reads PEM. When it is valid is not read here: that takes a parser of X.509.
    ///
    /// # Errors
    /// When there is no certificate or no key in the texts.
    pub fn from_pem(
        names: impl IntoIterator<Item = Hostname>,
        chain_pem: &str,
        key_pem: &str,
        valid: (i64, i64),
    ) -> io::Result<Self> {
        let bad = |what: &str, why: &dyn fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {why}"))
        };
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .map(|der| der.map(|der| Arc::from(&*der)))
            .collect::<Result<Box<[_]>, _>>()
            .map_err(|error| bad("the chain is not PEM", &error))?;
        if chain.is_empty() {
            return Err(bad("the chain", &"it has no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| bad("the key is not PEM", &error))?;
        let key = Zeroizing::new(key.secret_der().into());
        Ok(Self { names: names.into_iter().collect(), chain, key, valid })
    }
}

impl fmt::Debug for Certificate {
    /// The key stays out of every log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Which certificate is shown for which name. Cheap to clone, and to change one of very many.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    exact: HostTable<Arc<Certificate>>,
    /// By the name that they are below.
    wildcards: HostTable<Arc<Certificate>>,
    fallback: Option<Arc<Certificate>>,
}

impl Certificates {
    /// The certificate for a host: its own, else that of the wildcard above it, which covers one
    /// label.
    ///
    /// `host` must be lowercase and without a port.
    pub fn find(&self, host: &str) -> Option<&Arc<Certificate>> {
        let wildcard = || self.wildcards.get(host.split_once('.')?.1);
        self.exact.get(host).or_else(wildcard)
    }

    /// The certificate for clients that name no host, or one that there is none for: their user
    /// then reads whose certificate that is, and not a bare handshake failure.
    pub fn fallback(&self) -> Option<&Arc<Certificate>> {
        self.fallback.as_ref()
    }

    pub fn set_fallback(&mut self, certificate: Arc<Certificate>) {
        self.fallback = Some(certificate);
    }

    /// Shows it for this name from now on, which may be a wildcard.
    pub fn insert(&mut self, name: &Hostname, certificate: Arc<Certificate>) {
        match name.above_wildcard() {
            Some(above) => self.wildcards.insert(above, certificate),
            None => self.exact.insert(name.clone(), certificate),
        }
    }

    pub fn remove(&mut self, name: &Hostname) {
        match name.above_wildcard() {
            Some(above) => self.wildcards.remove(&above),
            None => self.exact.remove(name),
        }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcards.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.fallback.is_none()
    }

    /// Each name's, so that one certificate comes once for each of its names; then the fallback.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.exact.values().chain(self.wildcards.values()).chain(&self.fallback)
    }

    /// Those that are shown for a name for which `former` shows another. Costs what has changed.
    pub fn changed<'a>(&'a self, former: &'a Self) -> impl Iterator<Item = &'a Arc<Certificate>> {
        let exact = self.exact.changed(&former.exact, Arc::ptr_eq);
        let wildcards = self.wildcards.changed(&former.wildcards, Arc::ptr_eq);
        let fallback = self.fallback.iter().filter(|fallback| {
            former.fallback.as_ref().is_none_or(|former| !Arc::ptr_eq(former, fallback))
        });
        exact.chain(wildcards).chain(fallback)
    }
}

impl FromIterator<Arc<Certificate>> for Certificates {
    /// They come in the order of preference; the first is the fallback.
    fn from_iter<I: IntoIterator<Item = Arc<Certificate>>>(certificates: I) -> Self {
        let mut all = Self::default();
        for certificate in certificates {
            for name in &certificate.names {
                let (names, key) = match name.above_wildcard() {
                    Some(above) => (&mut all.wildcards, above),
                    None => (&mut all.exact, name.clone()),
                };
                if names.get(&key).is_none() {
                    names.insert(key, certificate.clone());
                }
            }
            all.fallback.get_or_insert(certificate);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Arc<Certificate> {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        let key = Zeroizing::new(Box::default());
        Arc::new(Certificate { names, chain: Box::default(), key, valid: (0, 0) })
    }

    #[test]
    fn an_exact_name_wins_and_a_wildcard_covers_one_label() {
        let (wild, exact) = (certificate(&["*.a.test", "a.test"]), certificate(&["b.a.test"]));
        let all: Certificates = [wild.clone(), exact.clone()].into_iter().collect();
        for (host, expected) in [
            ("a.test", Some(&wild)),
            ("x.a.test", Some(&wild)),
            ("b.a.test", Some(&exact)),
            ("x.b.a.test", None),
            ("test", None),
            ("", None),
        ] {
            let found = all.find(host);
            assert_eq!(found.map(Arc::as_ptr), expected.map(Arc::as_ptr), "{host}");
        }
        assert!(Arc::ptr_eq(all.fallback().unwrap(), &wild));
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn what_has_changed_is_told_and_nothing_else() {
        let many = |n: usize| certificate(&[&format!("n{n}.test")]);
        let former: Certificates = (0..2000).map(many).collect();
        let mut latter = former.clone();
        assert_eq!(latter.changed(&former).count(), 0);
        let (swapped, wild) = (certificate(&["n7.test"]), certificate(&["*.test"]));
        latter.insert(&swapped.names[0], swapped.clone());
        latter.insert(&wild.names[0], wild.clone());
        latter.remove(&"n8.test".parse().unwrap());
        let changed: Vec<_> = latter.changed(&former).map(Arc::as_ptr).collect();
        assert_eq!(changed, [Arc::as_ptr(&swapped), Arc::as_ptr(&wild)]);
        assert!(Arc::ptr_eq(latter.find("n8.test").unwrap(), &wild), "the wildcard stands in");
        assert_eq!(latter.len(), 2000);
    }
}
