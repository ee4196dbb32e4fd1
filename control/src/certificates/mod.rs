//! Certificates: what is kept, what is wanted, and what is shown to clients.
//!
//! One task, the [`keeper`], has all of them. It follows the world for what is wanted, has orders
//! made by [`acme`](crate::acme), and gives the loop what is to be served as one value.

mod cache;
mod keeper;
mod metrics;
mod read;
mod table;
mod wanted;

use std::sync::Arc;

use weir_config::{AcmeChallenge, Certificate, Certificates, DnsName, Hostname, IssuerName};

pub use self::cache::certificates;
pub(crate) use self::{
    cache::Cache,
    keeper::{CertificateError, Command, Keeper, Surroundings},
    metrics::CertificateMetrics,
    read::{BadCertificate, check_key, parse, read},
    table::Table,
};
use crate::acme::Failures;

/// What the keeper has, as the loop sees it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct CertificateState {
    /// What is to be shown to clients.
    pub(crate) served: Arc<Certificates>,
    /// By the first of its names.
    pub(crate) kept: imbl::OrdMap<Hostname, Arc<Kept>>,
    /// What authorities are to be answered over HTTP, by token.
    pub(crate) http_challenges: imbl::OrdMap<Arc<str>, Arc<str>>,
    /// What authorities are to be shown over TLS, by host name.
    pub(crate) tls_challenges: imbl::OrdMap<Hostname, Arc<Certificate>>,
    /// What TXT records authorities are to find (RFC 8555, 8.4).
    pub(crate) dns_challenges: imbl::OrdMap<DnsName, imbl::OrdSet<String>>,
    pub(crate) issuers: imbl::OrdMap<IssuerName, Arc<IssuerSeen>>,
}

impl CertificateState {
    /// Who may issue for zones of ours, as CAA records have it (RFC 8659): our accounts, by the ways
    /// in which they prove what is ours (RFC 8657). Nothing, unless all authorities are known by the
    /// name that such records call them: else one would be forbidden.
    pub(crate) fn caa(&self) -> Vec<Box<[u8]>> {
        let record = |tag: &str, value: String| {
            Box::from([&[0, tag.len() as u8], tag.as_bytes(), value.as_bytes()].concat())
        };
        let of_issuer = |seen: &Arc<IssuerSeen>| {
            let (ca, account) = (seen.caa.as_ref()?, seen.account.as_ref()?);
            let of = |methods| format!("{ca}; accounturi={account}; validationmethods={methods}");
            let methods = match seen.challenge {
                None | Some(AcmeChallenge::Http) => "dns-01,http-01",
                Some(AcmeChallenge::Tls) => "dns-01,tls-alpn-01",
                Some(AcmeChallenge::Dns) => "dns-01",
            };
            Some([record("issue", of(methods)), record("issuewild", of("dns-01"))])
        };
        let all: Option<Vec<_>> = self.issuers.values().map(of_issuer).collect();
        all.unwrap_or_default().into_iter().flatten().collect()
    }
}

/// An authority, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IssuerSeen {
    /// Of the store, as of which it is asked.
    pub(crate) revision: u64,
    /// As whom it knows us: what a CAA record may name (RFC 8657).
    pub(crate) account: Option<String>,
    /// What CAA records call it.
    pub(crate) caa: Option<String>,
    /// By which proof alone it is to be asked, if it is.
    pub(crate) challenge: Option<AcmeChallenge>,
    /// Why the last order of it failed, unless another has not since.
    pub(crate) error: Option<String>,
}

/// A certificate that is there, is wanted, or both.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) names: Box<[Hostname]>,
    pub(crate) source: Source,
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) issuer: Option<IssuerName>,
    /// How it is ordered of an authority that does not say by which proof; `None` if it is not.
    pub(crate) wanted: Option<AcmeChallenge>,
    /// By which proof it was ordered last, by this process.
    pub(crate) ordered_by: Option<AcmeChallenge>,
    /// In seconds since 1970; of one that was ordered.
    pub(crate) renew_at: Option<i64>,
    /// When it took the place of another, if that was lately.
    pub(crate) renewed_at: Option<i64>,
    /// Somebody has asked for a new one.
    pub(crate) is_forced: bool,
    pub(crate) is_being_ordered: bool,
    pub(crate) failures: Failures,
}

impl Kept {
    /// The words that [`Self::state`] gives.
    pub(crate) const STATES: [&str; 4] = ["valid", "pending", "failed", "ended"];

    /// How it is, in a word; `now` is in seconds since 1970.
    pub(crate) fn state(&self, now: i64) -> &'static str {
        match (self.has_ended(now), self.failures.count) {
            (Some(false), 0) => "valid",
            (Some(true), 0) => "ended",
            (None, 0) => "pending",
            _ => "failed",
        }
    }

    /// `None` if there is none.
    pub(crate) fn has_ended(&self, now: i64) -> Option<bool> {
        self.certificate.as_ref().map(|certificate| certificate.valid.1 <= now)
    }

    /// What the audit log says of the one that is there.
    fn summary(&self) -> Option<String> {
        self.certificate.as_ref().map(|certificate| summary(certificate, self.issuer.as_ref()))
    }

    pub(crate) fn new(
        names: Box<[Hostname]>,
        source: Source,
        certificate: Option<Arc<Certificate>>,
    ) -> Self {
        Self {
            names,
            source,
            certificate,
            issuer: None,
            wanted: None,
            ordered_by: None,
            renew_at: None,
            renewed_at: None,
            is_forced: false,
            is_being_ordered: false,
            failures: Failures::default(),
        }
    }
}

/// What the audit log says of a certificate, as JSON.
fn summary(certificate: &Certificate, issuer: Option<&IssuerName>) -> String {
    let names: Vec<_> = certificate.names.iter().map(|name| &**name).collect();
    let ends = crate::time::rfc3339(certificate.valid.1.saturating_mul(1000));
    let issuer = issuer.map(|issuer| &**issuer);
    serde_json::json!({ "names": names, "issuer": issuer, "not_after": ends }).to_string()
}

/// Where a certificate is from; the later, the rather it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Weir's own authority.
    Local,
    Acme,
    Upload,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Acme => "acme",
            Self::Upload => "upload",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Local, Self::Acme, Self::Upload].into_iter().find(|s| s.as_str() == text)
    }
}
