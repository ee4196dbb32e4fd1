//! How an authority is shown that names are ours (RFC 8555, 8 and RFC 8737).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use instant_acme::{AuthorizationStatus, ChallengeType, Identifier, KeyAuthorization};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use tokio::time::{Instant, timeout_at};
use weir_config::{AcmeChallenge, Certificate, DnsName, Hostname, RecordType, Snapshot};

use super::{
    Challenges,
    order::{Order, Stop},
};
use crate::{domains, failpoint};

/// How long what authorities look for may take to be served.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// Where the TXT record of a host name is to be.
pub(super) type Places = BTreeMap<Hostname, DnsName>;

impl Order {
    /// Where TXT records are to be, if that is the proof.
    pub(super) async fn places(&self) -> Result<Places, Stop> {
        let mut places = Places::new();
        if self.proof != AcmeChallenge::Dns {
            return Ok(places);
        }
        for name in &self.names {
            let host = domains::without_wildcard(name);
            let served = self.around.snapshots.current();
            let place = self.around.asker.delegated(&host, &served).await.map_err(Stop::Refused)?;
            let place = place.ok_or_else(|| {
                let record = domains::delegation(&host, &self.around.base_domain);
                Stop::Refused(format!("its proof is in no zone of Weir; write: {record}"))
            })?;
            places.insert(host, place);
        }
        Ok(places)
    }

    /// Shows the authority that the names are ours.
    pub(super) async fn prove(
        &self,
        order: &mut instant_acme::Order,
        places: &Places,
    ) -> Result<(), Stop> {
        let kind = match self.proof {
            AcmeChallenge::Http => ChallengeType::Http01,
            AcmeChallenge::Tls => ChallengeType::TlsAlpn01,
            AcmeChallenge::Dns => ChallengeType::Dns01,
        };
        let mut all = Challenges::default();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let Identifier::Dns(host) = authorization.identifier().identifier.clone() else {
                continue;
            };
            let host: Hostname = host.parse().map_err(Stop::Refused)?;
            let challenge = authorization.challenge(kind.clone());
            let challenge = challenge.ok_or_else(|| {
                let kind = self.proof.as_str();
                Stop::Refused(format!("the authority does not offer {kind} for {host}"))
            })?;
            let answer = challenge.key_authorization();
            match self.proof {
                AcmeChallenge::Http => {
                    all.http.push((challenge.token.as_str().into(), answer.as_str().into()));
                }
                AcmeChallenge::Tls => {
                    let certificate = Arc::new(certificate(&host, &answer)?);
                    all.tls.push((host, certificate));
                }
                AcmeChallenge::Dns => {
                    let place = places.get(&host).cloned().ok_or_else(|| {
                        Stop::Refused(format!(
                            "the authority asks for {host}, which is not ordered"
                        ))
                    })?;
                    all.dns.push((place, answer.dns_value()));
                }
            }
        }
        self.serve(all).await?;
        failpoint::pass("after", "challenge");
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(kind.clone()) {
                challenge.set_ready().await?;
            }
        }
        failpoint::pass("after", "ready");
        Ok(())
    }

    /// Has the answers served, and waits until they are.
    async fn serve(&self, challenges: Challenges) -> Result<(), Stop> {
        const GONE: &str = "Weir is about to end";
        let (name, told) = (self.names[0].clone(), challenges.clone());
        self.told.send((name, told)).await.map_err(|_| Stop::Late(GONE))?;
        let until = Instant::now() + SERVED_WITHIN;
        let mut snapshot = self.around.snapshots.current();
        while !serves(&snapshot, &challenges) {
            let newer = self.around.snapshots.newer_than(snapshot.generation);
            snapshot = timeout_at(until, newer)
                .await
                .map_err(|_| Stop::Late("what the authority looks for is not served yet"))?;
        }
        Ok(())
    }
}

/// What an authority is shown that asks for `acme-tls/1` (RFC 8737, 3).
fn certificate(host: &Hostname, answer: &KeyAuthorization) -> Result<Certificate, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([host.to_string()])?;
    let digest = answer.digest();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let chain = params.self_signed(&key)?;
    let der: Box<[u8]> = key.serialize_der().into();
    Ok(Certificate {
        names: [host.clone()].into(),
        chain: [Arc::from(&**chain.der())].into(),
        key: zeroize::Zeroizing::new(der),
        valid: (0, 0),
    })
}

fn serves(snapshot: &Snapshot, challenges: &Challenges) -> bool {
    let has_text = |name: &DnsName, value: &str| {
        let texts = snapshot.zone_of(name.wire()).and_then(|zone| zone.get(name, RecordType::TXT));
        // One string of at most 255 bytes, after its length (RFC 1035, 3.3.14).
        let is_value = |text: &[u8]| text.get(1..) == Some(value.as_bytes());
        texts.is_some_and(|texts| texts.data().any(is_value))
    };
    challenges.dns.iter().all(|(name, value)| has_text(name, value))
        && challenges.http.iter().all(|(token, answer)| {
            snapshot.http_challenges.get(token).is_some_and(|served| served == answer)
        })
        && challenges.tls.iter().all(|(host, certificate)| {
            snapshot.tls_challenges.get(host).is_some_and(|served| served == certificate)
        })
}
