//! What is wanted, and what nobody wants any more.

use std::collections::HashSet;

use weir_config::{DnsName, Hostname};

use super::{Keeper, now};
use crate::{
    certificates::{Kept, Source, wanted::wanted},
    reconciler::World,
    store::{Cause, StoreError, Verb},
};

impl Keeper {
    /// Finds out what is wanted, and lets go of what nobody wants any more.
    pub(super) async fn want(&mut self, world: &World) {
        let kept = self.table.kept();
        let uploads = kept.values().filter(|kept| kept.source == Source::Upload);
        let uploads = uploads.filter_map(|kept| kept.certificate.as_ref());
        let uploaded: HashSet<_> = uploads.flat_map(|certificate| &certificate.names).collect();
        let is_uploaded = |name: &Hostname| uploaded.contains(name);
        let served = &world.observed.served;
        let has_zone = |name: &Hostname| served.zone_of(DnsName::from(name).wire()).is_some();
        let wanted = wanted(&world.desired, &self.around.base_domain, has_zone, is_uploaded);
        let is_same = |name: &Hostname, kept: &Kept| match wanted.get(name) {
            Some((names, proof)) => kept.wanted == Some(*proof) && kept.names == *names,
            None => kept.wanted.is_none(),
        };
        let gone: Vec<_> = kept
            .iter()
            .filter(|(name, kept)| !wanted.contains_key(*name) && !is_same(name, kept))
            .map(|(name, _)| name.clone())
            .collect();
        let new: Vec<_> = wanted
            .into_iter()
            .filter(|(name, (names, proof))| {
                let kept = kept.get(name);
                kept.is_none_or(|kept| kept.wanted != Some(*proof) || kept.names != *names)
            })
            .collect();
        for (name, (names, proof)) in new {
            self.change(&name, |kept| (kept.names, kept.wanted) = (names, Some(proof)));
        }
        for name in gone {
            self.change(&name, |kept| kept.wanted = None);
        }
        self.let_go().await;
    }

    /// Forgets what is not wanted and has ended, or never was there.
    async fn let_go(&mut self) {
        let now = now();
        let is_over = |kept: &Kept| {
            let ended =
                kept.certificate.as_ref().is_none_or(|certificate| certificate.valid.1 < now);
            kept.wanted.is_none() && kept.source == Source::Acme && ended && !kept.is_being_ordered
        };
        let over = self.table.kept().iter().filter(|(_, kept)| is_over(kept));
        for name in over.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            match self.forget(&name, Cause::of_weir(Verb::Delete)).await {
                Ok(()) => tracing::info!(%name, "its certificate is no longer wanted"),
                Err(error) => tracing::warn!(%name, %error, "it cannot be forgotten yet"),
            }
        }
    }

    pub(super) async fn forget(
        &mut self,
        name: &Hostname,
        cause: Cause<'_>,
    ) -> Result<(), StoreError> {
        let before = self.table.kept().get(name).and_then(|kept| kept.summary());
        let former = self.around.store.certificate(name).await?;
        self.around.store.delete_certificate(name, before, cause).await?;
        self.cache(former.as_ref(), None);
        self.table.remove(name);
        self.schedule(name);
        self.is_changed = true;
        Ok(())
    }
}
