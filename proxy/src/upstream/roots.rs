//! The authorities that apps name for their instances' certificates.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use pingora::{
    protocols::tls::CaType,
    utils::tls::{WrappedX509, parse_x509},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

type Written = [Arc<[u8]>];

/// Authorities' certificates in the form that Pingora takes, parsed once for each policy and not
/// for each request. Read without a lock; holds no more than the policies that are in use.
#[derive(Debug, Default)]
pub(crate) struct Roots(ArcSwap<HashMap<usize, Entry>>);

#[derive(Clone, Debug)]
struct Entry {
    /// Keeps the address, which is the key, from being another policy's.
    written: Weak<Written>,
    parsed: Arc<CaType>,
}

impl Roots {
    /// Certificates that cannot be parsed are left out. With none left, Pingora refuses to connect:
    /// nothing is trusted unverified.
    pub(crate) fn parsed(&self, written: &Arc<Written>) -> Arc<CaType> {
        let key = Arc::as_ptr(written).cast::<()>().addr();
        if let Some(entry) = self.0.load().get(&key) {
            return entry.parsed.clone();
        }
        let entry = Entry { written: Arc::downgrade(written), parsed: parse(written) };
        self.0.rcu(|entries| {
            let used = entries.iter().filter(|(_, entry)| entry.written.strong_count() > 0);
            let mut entries: HashMap<_, _> =
                used.map(|(key, entry)| (*key, entry.clone())).collect();
            entries.insert(key, entry.clone());
            entries
        });
        entry.parsed
    }
}

fn parse(written: &Written) -> Arc<CaType> {
    let whole = |der: &&Arc<[u8]>| {
        // Pingora's parser panics where this one says no.
        X509Certificate::from_der(der)
            .inspect_err(|error| tracing::error!(%error, "an authority's certificate is not used"))
            .is_ok()
    };
    written.iter().filter(whole).map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Arc<[u8]> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        Arc::from(&**certificate.der())
    }

    #[test]
    fn each_policy_is_parsed_once_and_forgotten_with_it() {
        let roots = Roots::default();
        let (one, other): (Arc<Written>, Arc<Written>) = ([root()].into(), [root()].into());
        let parsed = roots.parsed(&one);
        assert!(Arc::ptr_eq(&parsed, &roots.parsed(&one)));
        assert_eq!(parsed[0].borrow_raw_cert(), &*one[0]);
        drop(one);
        assert_eq!(roots.parsed(&other)[0].borrow_raw_cert(), &*other[0]);
        assert_eq!(roots.0.load().len(), 1);
    }

    #[test]
    fn what_is_no_certificate_is_left_out() {
        let junk: Arc<[u8]> = Arc::from(&b"junk"[..]);
        let written: Arc<Written> = [junk, root()].into();
        assert_eq!(Roots::default().parsed(&written).len(), 1);
    }
}
