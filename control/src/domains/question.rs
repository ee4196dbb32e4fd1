//! What the DNS is asked about a domain.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use weir_config::{AcmeChallenge, AppName, DnsName, Hostname, Snapshot};

use super::{Asker, Domain, Looked, Proof, ProofKind, delegation, without_wildcard};
use crate::{reconciler::World, time::unix_millis};

pub(super) struct Question {
    pub(super) asker: Asker,
    pub(super) host: Hostname,
    pub(super) domain: Arc<Domain>,
    pub(super) base: Hostname,
    pub(super) served: Arc<Snapshot>,
    /// What its owner writes for the app to have it.
    pub(super) ownership: String,
    /// Whether a certificate for it can be proven by DNS only.
    pub(super) is_by_dns: bool,
}

impl Question {
    pub(super) async fn ask(&self) -> Looked {
        let (name, target) = (DnsName::from(&self.host), DnsName::from(&self.domain.target));
        let (leads_to, here, authorizations) = tokio::join!(
            self.asker.addresses(&name),
            self.asker.addresses(&target),
            self.asker.authorizations(&name)
        );
        let (mut proofs, is_in_zone) = (Vec::new(), self.served.zone_of(name.wire()).is_some());
        if !self.domain.is_verified {
            // A zone of ours is nobody else's.
            let is_seen = is_in_zone || self.is_owned().await;
            let bare = without_wildcard(&self.host);
            let record = format!("_weir-challenge.{bare}. TXT \"{}\"", self.ownership);
            proofs.push(Proof { kind: ProofKind::Ownership, record, is_seen });
        }
        if self.is_by_dns && !is_in_zone {
            let bare = without_wildcard(&self.host);
            let place = self.asker.delegated(&bare, &self.served).await;
            let record = delegation(&bare, &self.base);
            let is_seen = place.is_ok_and(|place| place.is_some());
            proofs.push(Proof { kind: ProofKind::Delegation, record, is_seen });
        }
        Looked { leads_to, here, authorizations, proofs, at: unix_millis() }
    }

    async fn is_owned(&self) -> bool {
        let name = format!("_weir-challenge.{}", without_wildcard(&self.host));
        let Ok(name) = name.parse() else { return false };
        self.asker.says(&name, &self.ownership).await.unwrap_or(false)
    }
}

/// What the owner of a domain writes for an app to have it: for another app, or another Weir, it is
/// another.
pub(super) fn ownership(cluster: &str, app: &AppName, host: &Hostname) -> String {
    let mut hash = Sha256::new();
    for part in ["weir domain", cluster, app, host] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("weir-domain={hex}")
}

/// Whether a certificate for it can be proven by DNS only.
pub(super) fn is_by_dns(host: &Hostname, world: &World) -> bool {
    let issuers = &world.observed.certificates.issuers;
    let mut challenges = issuers.values().map(|issuer| issuer.challenge);
    let is_alone = challenges.all(|challenge| challenge == Some(AcmeChallenge::Dns));
    !issuers.is_empty() && (is_alone || host.starts_with("*."))
}
