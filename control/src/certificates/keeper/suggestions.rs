//! When authorities would have their certificates renewed (RFC 9773).

use std::collections::BTreeSet;

use tokio::task::JoinSet;
use weir_config::Hostname;

use super::{Keeper, SOONEST_RENEWAL, now};
use crate::acme::{self, Suggestion, renew_at};

/// After a start, authorities are asked within this, in seconds,
const ASK_WITHIN: i64 = 6 * 3600;
/// and so many at a time.
const MOST_ASKED: usize = 4;

/// Who is to be asked when its certificate is to be renewed, and when.
#[derive(Debug, Default)]
pub(super) struct Suggestions {
    pub(super) due: BTreeSet<(i64, Hostname)>,
    pub(super) asked: JoinSet<(Hostname, Option<Suggestion>)>,
}

impl Suggestions {
    pub(super) fn has_room(&self) -> bool {
        self.asked.len() < MOST_ASKED
    }

    /// Has all of them asked, each at some time.
    pub(super) fn ask_all<'a>(&mut self, names: impl Iterator<Item = &'a Hostname>) {
        let now = now();
        let later = || (rand::random::<f64>() * ASK_WITHIN as f64) as i64;
        self.due = names.map(|name| (now + later(), name.clone())).collect();
    }
}

impl Keeper {
    /// Asks authorities when they would have their certificates renewed: in an emergency that is
    /// much sooner than it was.
    pub(super) fn ask_due(&mut self) {
        let now = now();
        while self.suggestions.has_room()
            && let Some((at, _)) = self.suggestions.due.first()
            && *at <= now
            && let Some((_, name)) = self.suggestions.due.pop_first()
        {
            let Some(kept) = self.table.kept().get(&name) else { continue };
            let issuer =
                self.issuers.iter().find(|issuer| Some(&issuer.name) == kept.issuer.as_ref());
            let (Some(issuer), Some(certificate)) = (issuer.cloned(), kept.certificate.clone())
            else {
                continue;
            };
            let around = self.around.clone();
            let ask = async { (name, acme::suggestion(issuer, certificate, around).await) };
            self.suggestions.asked.spawn(ask);
        }
    }

    pub(super) async fn take_suggestion(
        &mut self,
        name: &Hostname,
        suggestion: Option<Suggestion>,
    ) {
        // One that has never said anything need not be asked before the next start.
        let Some(Suggestion { window, ask_again }) = suggestion else { return };
        self.suggestions.due.insert((now() + ask_again, name.clone()));
        let Some(kept) = self.table.kept().get(name).cloned() else { return };
        let Some(certificate) = kept.certificate.as_ref() else { return };
        let former = kept.renew_at.unwrap_or(0);
        if (window.0..=window.1).contains(&former) || kept.is_being_ordered {
            return;
        }
        let renew_at = renew_at(certificate.valid, Some(window), rand::random());
        // An authority that would have each new one replaced at once is mistaken.
        let renew_at = renew_at.max(kept.renewed_at.map_or(0, |at| at + SOONEST_RENEWAL));
        if let Err(error) = self.around.store.set_renewal(name, renew_at).await {
            return tracing::warn!(%name, %error, "a suggestion of its authority is not noted");
        }
        tracing::info!(%name, renew_at, "its authority suggests another time to renew it");
        self.change(name, |kept| kept.renew_at = Some(renew_at));
    }
}
