//! When an authority suggests to renew a certificate (RFC 9773).

use std::sync::Arc;

use instant_acme::{Account, CertificateIdentifier};
use rustls::pki_types::CertificateDer;
use weir_config::Certificate;

use super::Issuer;
use crate::certificates::Surroundings;

/// What an authority suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suggestion {
    /// In seconds since 1970.
    pub(crate) window: (i64, i64),
    /// In how many seconds it may be another.
    pub(crate) ask_again: i64,
}

/// What an authority says may be asked again (RFC 9773, 4.3.2), within these bounds.
const SOONEST: i64 = 10;
const LATEST: i64 = 24 * 3600;

/// Asks the issuer of a certificate; `None` if it does not say.
pub(crate) async fn suggestion(
    issuer: Arc<Issuer>,
    certificate: Arc<Certificate>,
    around: Arc<Surroundings>,
) -> Option<Suggestion> {
    let account = issuer.account(issuer.client.afresh(), &around).await.ok()?;
    of(&account, &CertificateDer::from(certificate.chain[0].to_vec())).await
}

pub(super) async fn of(account: &Account, leaf: &CertificateDer<'_>) -> Option<Suggestion> {
    let id = CertificateIdentifier::try_from(leaf).ok()?;
    let (info, again) = account.renewal_info(&id).await.ok()?;
    let window = info.suggested_window;
    Some(Suggestion {
        window: (window.start.unix_timestamp(), window.end.unix_timestamp()),
        ask_again: (again.as_secs() as i64).clamp(SOONEST, LATEST),
    })
}
