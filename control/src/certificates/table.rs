//! All certificates, and which of them is shown for each name.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use weir_config::{Certificate, Certificates, Hostname};

use super::{Kept, Source};

/// Pure: what goes in decides what is shown.
#[derive(Debug)]
pub(crate) struct Table {
    base: Hostname,
    local: Arc<Certificate>,
    kept: imbl::OrdMap<Hostname, Arc<Kept>>,
    /// Which of them are for a name.
    of_name: HashMap<Hostname, Vec<Hostname>>,
    served: Arc<Certificates>,
    /// Certificates of authorities, which many chains share.
    authorities: HashSet<Arc<[u8]>>,
}

impl Table {
    /// One that has only what Weir's own authority made for the base domain.
    pub(crate) fn new(base: Hostname, local: Arc<Certificate>) -> Self {
        let served = Arc::new(Certificates::from_iter([local.clone()]));
        let (kept, authorities) = (imbl::OrdMap::new(), HashSet::new());
        Self { base, local, kept, of_name: HashMap::new(), served, authorities }
    }

    pub(crate) fn kept(&self) -> &imbl::OrdMap<Hostname, Arc<Kept>> {
        &self.kept
    }

    pub(crate) fn served(&self) -> &Arc<Certificates> {
        &self.served
    }

    /// Weir's own authority has made another one.
    pub(crate) fn set_local(&mut self, local: Arc<Certificate>) {
        let names = local.names.clone();
        self.local = local;
        self.show_anew(&names);
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
            self.replace(name, former.as_deref(), latter.as_deref());
        }
    }

    pub(crate) fn remove(&mut self, name: &Hostname) {
        let former = self.kept.remove(name).and_then(|former| former.certificate.clone());
        self.replace(name, former.as_deref(), None);
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

    /// Notes that the one kept as `kept` is another one now.
    fn replace(
        &mut self,
        kept: &Hostname,
        former: Option<&Certificate>,
        latter: Option<&Certificate>,
    ) {
        for name in former.iter().flat_map(|former| &former.names) {
            if let Some(of_name) = self.of_name.get_mut(name) {
                of_name.retain(|other| other != kept);
            }
        }
        for name in latter.iter().flat_map(|latter| &latter.names) {
            self.of_name.entry(name.clone()).or_default().push(kept.clone());
        }
        let names: HashSet<_> =
            former.iter().chain(&latter).flat_map(|c| c.names.iter().cloned()).collect();
        self.show_anew(&names.into_iter().collect::<Vec<_>>());
    }

    /// Finds out what is shown for these names now.
    fn show_anew(&mut self, names: &[Hostname]) {
        for name in names {
            let best = self.best(name);
            let served = Arc::make_mut(&mut self.served);
            match best {
                Some(certificate) => served.insert(name, certificate),
                None => served.remove(name),
            }
            if self.of_name.get(name).is_some_and(Vec::is_empty) {
                self.of_name.remove(name);
            }
        }
        if let Some(fallback) = self.best(&self.base) {
            Arc::make_mut(&mut self.served).set_fallback(fallback);
        }
    }

    /// Of those for a name the one from the best source, and of several the one that ends last.
    fn best(&self, name: &Hostname) -> Option<Arc<Certificate>> {
        let kept = self.of_name.get(name).into_iter().flatten().filter_map(|k| self.kept.get(k));
        let all = kept.filter_map(|kept| Some((kept.source, kept.certificate.as_ref()?)));
        let local = Some((Source::Local, &self.local));
        let all = all.chain(local.filter(|(_, local)| local.names.contains(name)));
        let best = all.max_by_key(|(source, certificate)| (*source, certificate.valid.1));
        best.map(|(_, certificate)| certificate.clone())
    }
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
        let uploaded =
            put(&mut table, Source::Upload, certificate(&["shop.apps.test", "a.test"], 20));
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
        let [a, b] = ["a.test", "b.test"]
            .map(|name| put(&mut table, Source::Acme, certificate(&[name], 50)));
        assert!(Arc::ptr_eq(&a.chain[1], &b.chain[1]) && !Arc::ptr_eq(&a.chain[0], &b.chain[0]));
    }
}
