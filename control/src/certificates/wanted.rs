//! Which certificates are to be ordered: those that apps need, and no others.

use std::collections::BTreeMap;

use weir_config::{AcmeChallenge, Desired, Hostname};

/// What is wanted, by the first of its names: for the base domain one with a wildcard, so that a new
/// app has it at once, and for each other host name of an app one of its own.
///
/// `has_zone` says whether a name is answered for by our own name server, and `is_uploaded` whether
/// an operator has given a certificate for it.
pub(super) fn wanted(
    desired: &Desired,
    base: &Hostname,
    has_zone: impl Fn(&Hostname) -> bool,
    is_uploaded: impl Fn(&Hostname) -> bool,
) -> BTreeMap<Hostname, (Box<[Hostname]>, AcmeChallenge)> {
    let mut wanted = BTreeMap::new();
    if has_zone(base) && !(is_uploaded(base) && is_uploaded(&base.wildcard())) {
        wanted.insert(base.clone(), ([base.clone(), base.wildcard()].into(), AcmeChallenge::Dns));
    }
    let hostnames = desired.apps.values().flat_map(|app| &app.app.hostnames);
    for host in hostnames.map(|hostname| &hostname.host) {
        if is_covered(host, base) || is_uploaded(host) {
            continue;
        }
        // A wildcard is proven by DNS only (RFC 8555, 7.1.3).
        let proof = match has_zone(host) || host.starts_with("*.") {
            true => AcmeChallenge::Dns,
            false => AcmeChallenge::Http,
        };
        wanted.insert(host.clone(), ([host.clone()].into(), proof));
    }
    wanted
}

/// Whether the certificate for the base domain is for this name too.
pub(crate) fn is_covered(host: &Hostname, base: &Hostname) -> bool {
    host == base || host.split_once('.').is_some_and(|(_, above)| *above == **base)
}
