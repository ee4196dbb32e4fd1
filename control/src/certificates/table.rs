//! All certificates, and which of them is shown for each name.

use std::{collections::HashSet, sync::Arc};

use weir_config::{Certificate, Certificates, Hostname};

use super::{Kept, Source};

/// Pure: what goes in decides what is shown.
#[derive(Debug)]
pub(crate) struct Table {
    base: Hostname,
    local: Arc<Certificate>,
    kept: imbl::OrdMap<Hostname, Arc<Kept>>,
    served: Arc<Certificates>,
    /// Certificates of authorities, which many chains share.
    authorities: HashSet<Arc<[u8]>>,
}

impl Table {
    /// One that has only what Weir's own authority made for the base domain.
    pub(crate) fn new(base: Hostname, local: Arc<Certificate>) -> Self {
        let served = Arc::new(Certificates::from_iter([local.clone()]));
        let (kept, authorities) = (imbl::OrdMap::new(), HashSet::new());
        Self { base, local, kept, served, authorities }
    }

    pub(crate) fn kept(&self) -> &imbl::OrdMap<Hostname, Arc<Kept>> {
        &self.kept
    }

    pub(crate) fn served(&self) -> &Arc<Certificates> {
        &self.served
    }

    /// Weir's own authority has made another one.
    pub(crate) fn set_local(&mut self, local: Arc<Certificate>) {
        self.local = local.clone();
        self.show_anew(&local.names);
    }

    /// Changes one, or makes it: it begins as what is wanted and not there.
    pub(crate) fn change(&mut self, name: &Hostname, change: impl FnOnce(&mut Kept)) {
        let former = self.kept.get(name);
        let mut kept = former.map_or_else(
            || Kept::new([name.clone()].into(), Source::Acme, None),
            |former| (**former).clone(),
        );
        change(&mut kept);
        let former = former.and_then(|former| former.certificate.clone());
        let is_same = match (&former, &kept.certificate) {
            (Some(former), Some(latter)) => Arc::ptr_eq(former, latter),
            (former, latter) => former.is_none() && latter.is_none(),
        };
        let latter = kept.certificate.clone();
        self.kept.insert(name.clone(), Arc::new(kept));
        if !is_same {
            self.show_all_anew(former.iter().chain(&latter));
        }
    }

    pub(crate) fn remove(&mut self, name: &Hostname) {
        let former = self.kept.remove(name).and_then(|former| former.certificate.clone());
        self.show_all_anew(former.iter());
    }

    /// The same certificate, with those of its chain that others have too shared with them.
    pub(crate) fn share(&mut self, mut certificate: Certificate) -> Arc<Certificate> {
        for authority in certificate.chain.iter_mut().skip(1) {
            match self.authorities.get(authority) {
                Some(known) => *authority = known.clone(),
                None => _ = self.authorities.insert(authority.clone()),
            }
        }
        Arc::new(certificate)
    }

    fn show_all_anew<'a>(&mut self, certificates: impl Iterator<Item = &'a Arc<Certificate>>) {
        let names: HashSet<_> = certificates.flat_map(|c| c.names.iter().cloned()).collect();
        self.show_anew(&names.into_iter().collect::<Vec<_>>());
    }

    /// Finds out what is shown for these names now.
    fn show_anew(&mut self, names: &[Hostname]) {
        let served = Arc::make_mut(&mut self.served);
        for name in names {
            match best(&self.kept, &self.local, name) {
                Some(certificate) => served.insert(name, certificate),
                None => served.remove(name),
            }
        }
        if let Some(fallback) = best(&self.kept, &self.local, &self.base) {
            served.set_fallback(fallback);
        }
    }
}

/// Of those for a name the one from the best source, and of several the one that ends last.
fn best(
    kept: &imbl::OrdMap<Hostname, Arc<Kept>>,
    local: &Arc<Certificate>,
    name: &Hostname,
) -> Option<Arc<Certificate>> {
    let all = kept.values().filter_map(|kept| Some((kept.source, kept.certificate.as_ref()?)));
    let all = all.chain([(Source::Local, local)]);
    let of_name = all.filter(|(_, certificate)| certificate.names.contains(name));
    let best = of_name.max_by_key(|(source, certificate)| (*source, certificate.valid.1));
    best.map(|(_, certificate)| certificate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str], ends: i64) -> Certificate {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        let chain = [[1_u8, 2].as_slice().into(), [3_u8; 100].as_slice().into()].into();
        Certificate { names, chain, key: Default::default(), valid: (0, ends) }
    }

    fn table() -> Table {
        let local = certificate(&["apps.test", "*.apps.test"], 100);
        Table::new("apps.test".parse().unwrap(), Arc::new(local))
    }

    fn put(table: &mut Table, source: Source, one: Certificate) -> Arc<Certificate> {
        let one = table.share(one);
        table.change(&one.names[0], |kept| {
            (kept.source, kept.certificate) = (source, Some(one.clone()));
        });
        one
    }

    fn check(table: &Table, host: &str, expected: Option<&Arc<Certificate>>) {
        let found = table.served().find(host);
        assert_eq!(found.map(Arc::as_ptr), expected.map(Arc::as_ptr), "{host}");
    }

    #[test]
    fn the_best_source_is_shown_and_what_was_before_returns() {
        let mut table = table();
        let local = table.local.clone();
        check(&table, "shop.apps.test", Some(&local));
        let ordered = put(&mut table, Source::Acme, certificate(&["apps.test", "*.apps.test"], 50));
        check(&table, "shop.apps.test", Some(&ordered));
        assert!(Arc::ptr_eq(table.served().fallback().unwrap(), &ordered));
        let uploaded = put(&mut table, Source::Upload, certificate(&["shop.apps.test", "a.test"], 20));
        check(&table, "shop.apps.test", Some(&uploaded));
        check(&table, "blog.apps.test", Some(&ordered));
        table.remove(&uploaded.names[0]);
        check(&table, "shop.apps.test", Some(&ordered));
        check(&table, "a.test", None);
        table.remove(&ordered.names[0]);
        check(&table, "shop.apps.test", Some(&local));
        assert!(Arc::ptr_eq(table.served().fallback().unwrap(), &local));
    }

    #[test]
    fn a_renewed_one_takes_the_place_of_the_former_one_for_all_of_its_names() {
        let mut table = table();
        put(&mut table, Source::Acme, certificate(&["a.test", "b.test"], 50));
        let renewed = put(&mut table, Source::Acme, certificate(&["a.test", "c.test"], 60));
        check(&table, "a.test", Some(&renewed));
        check(&table, "b.test", None);
        check(&table, "c.test", Some(&renewed));
    }

    #[test]
    fn what_is_only_noted_of_one_changes_nothing_that_is_shown() {
        let mut table = table();
        put(&mut table, Source::Acme, certificate(&["a.test"], 50));
        let served = table.served().clone();
        table.change(&"a.test".parse().unwrap(), |kept| kept.is_being_ordered = true);
        table.change(&"wanted.test".parse().unwrap(), |_| {});
        assert!(Arc::ptr_eq(&served, table.served()));
    }

    #[test]
    fn chains_share_their_authorities() {
        let mut table = table();
        let [a, b] = ["a.test", "b.test"].map(|name| put(&mut table, Source::Acme, certificate(&[name], 50)));
        assert!(Arc::ptr_eq(&a.chain[1], &b.chain[1]) && !Arc::ptr_eq(&a.chain[0], &b.chain[0]));
    }
}
