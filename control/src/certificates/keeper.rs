//! The task that has all certificates: finds out what is wanted, has it ordered when it is due, and
//! tells the loop what is to be served.

mod commands;
mod orders;
mod suggestions;
mod wants;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{self, JoinSet},
    time::{Instant, sleep, sleep_until},
};
use weir_config::{Certificate, DnsName, Hostname, IssuerName, Snapshots};

pub(crate) use self::commands::{CertificateError, Command};
use self::suggestions::Suggestions;
use super::{
    Cache, CertificateMetrics, CertificateState, IssuerSeen, Kept, Source, Table, read, summary,
};
use crate::{
    acme::{Budget, Challenges, Ended, Issuer},
    domains::Asker,
    event::Event,
    key_file::KeyFile,
    reconciler::World,
    store::{self, Cause, NewCertificate, Record, Store, StoreError, StoredCertificate},
};

/// What the keeper works with.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) store: Store,
    pub(crate) keys: Arc<KeyFile>,
    pub(crate) cache: Cache,
    pub(crate) snapshots: Snapshots,
    pub(crate) base_domain: Hostname,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) metrics: CertificateMetrics,
    pub(crate) asker: Asker,
    /// Held while an account is looked for or made: there is one with each authority.
    pub(crate) accounts: tokio::sync::Mutex<()>,
}

/// Orders under way at a time: each is a few requests and mostly waits.
const MOST_ORDERS: usize = 16;
/// In seconds after it has come; one that came first may be replaced at once.
const SOONEST_RENEWAL: i64 = 3600;
/// Messages of orders that wait to be taken in.
const QUEUE: usize = 64;
/// What is wanted is found out no more often than this.
const PACE: Duration = Duration::from_millis(200);
/// Whatever is due, one looks again by then: the clock may have been set.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);
/// After the store has failed.
const RETRY: Duration = Duration::from_secs(1);
/// What an order asks to be shown for its proofs.
type Asked = (Hostname, Challenges);

#[derive(Debug)]
pub(crate) struct Keeper {
    around: Arc<Surroundings>,
    table: Table,
    issuers: Vec<Arc<Issuer>>,
    seen: imbl::OrdMap<IssuerName, Arc<IssuerSeen>>,
    budgets: BTreeMap<IssuerName, Budget>,
    /// When each is to be looked at, in seconds since 1970.
    due: BTreeSet<(i64, Hostname)>,
    due_at: HashMap<Hostname, i64>,
    challenges: BTreeMap<Hostname, Challenges>,
    orders: JoinSet<Ended>,
    ordered: HashMap<task::Id, (Hostname, IssuerName)>,
    suggestions: Suggestions,
    told: (mpsc::Sender<Asked>, mpsc::Receiver<Asked>),
    /// What was wanted is of this revision of the store and so many zones served.
    wanted_as_of: Option<(u64, usize)>,
    is_changed: bool,
}

impl Keeper {
    pub(crate) fn new(around: Surroundings, local: Arc<Certificate>) -> Self {
        Self {
            table: Table::new(around.base_domain.clone(), local),
            around: Arc::new(around),
            issuers: Vec::new(),
            seen: imbl::OrdMap::new(),
            budgets: BTreeMap::new(),
            due: BTreeSet::new(),
            due_at: HashMap::new(),
            challenges: BTreeMap::new(),
            orders: JoinSet::new(),
            ordered: HashMap::new(),
            suggestions: Suggestions::default(),
            told: mpsc::channel(QUEUE),
            wanted_as_of: None,
            is_changed: true,
        }
    }

    /// Runs until the loop is gone.
    pub(crate) async fn keep(
        mut self,
        mut worlds: watch::Receiver<Arc<World>>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        while let Err(error) = self.load().await {
            tracing::error!(%error, "the certificates cannot be read; trying again");
            sleep(RETRY).await;
        }
        let mut looked = Instant::now();
        loop {
            let world = worlds.borrow_and_update().clone();
            let as_of = (world.desired.revision, world.observed.served.zones().len());
            let is_stale = self.wanted_as_of != Some(as_of);
            if is_stale && (self.wanted_as_of.is_none() || looked.elapsed() >= PACE) {
                self.follow_issuers().await;
                self.want(&world).await;
                self.wanted_as_of = Some(as_of);
                looked = Instant::now();
            }
            self.begin_due();
            self.ask_due();
            if std::mem::take(&mut self.is_changed) && !self.tell().await {
                return;
            }
            let look =
                if self.wanted_as_of != Some(as_of) { looked + PACE } else { self.next_look() };
            tokio::select! {
                changed = worlds.changed() => if changed.is_err() { return },
                Some(command) = commands.recv() => self.obey(command).await,
                Some((name, challenges)) = self.told.1.recv() => {
                    self.challenges.insert(name, challenges);
                    self.is_changed = true;
                }
                Some(ended) = self.orders.join_next_with_id() => {
                    let id = ended.as_ref().map_or_else(task::JoinError::id, |(id, _)| *id);
                    if let Some((name, issuer)) = self.ordered.remove(&id) {
                        let ended = ended.map(|(_, ended)| ended).unwrap_or_else(|error| Ended::panicked(&error));
                        self.take_in(&name, issuer, ended).await;
                    }
                }
                Some(Ok((name, suggestion))) = self.suggestions.asked.join_next() => {
                    self.take_suggestion(&name, suggestion).await;
                }
                () = sleep_until(look) => {}
            }
        }
    }

    async fn tell(&self) -> bool {
        let http = self.challenges.values().flat_map(|challenges| &challenges.http);
        let mut dns_challenges = imbl::OrdMap::<DnsName, imbl::OrdSet<String>>::new();
        for (name, value) in self.challenges.values().flat_map(|challenges| &challenges.dns) {
            dns_challenges.entry(name.clone()).or_default().insert(value.clone());
        }
        let tls = self.challenges.values().flat_map(|challenges| &challenges.tls);
        let state = CertificateState {
            served: self.table.served().clone(),
            kept: self.table.kept().clone(),
            http_challenges: http.cloned().collect(),
            tls_challenges: tls.cloned().collect(),
            dns_challenges,
            issuers: self.seen.clone(),
        };
        self.around.events.send(Event::Certificates(Box::new(state))).await.is_ok()
    }

    /// Takes in what the store has.
    async fn load(&mut self) -> Result<(), StoreError> {
        let (store, mut all, mut last) = (self.around.store.clone(), Vec::new(), String::new());
        loop {
            let page = store.certificates(&last).await?;
            let Some(end) = page.last() else { break };
            last = end.name.to_string();
            all.extend(page);
        }
        all.iter().for_each(|stored| self.take_stored(stored));
        self.suggestions.ask_all(all.iter().map(|stored| &stored.name));
        self.keep_cache(all).await;
        for (name, failures) in store.acme_failures().await? {
            self.change(&name, |kept| kept.failures = failures);
        }
        let issuers = store.issuers().await?;
        self.take_issuers(issuers).await
    }

    async fn keep_cache(&self, all: Vec<StoredCertificate>) {
        let cache = self.around.cache.clone();
        let kept = tokio::task::spawn_blocking(move || cache.keep(&all)).await;
        if let Err(error) = kept.map_err(std::io::Error::other).flatten() {
            tracing::error!(%error, "certificates cannot be kept for the next start");
        }
    }

    /// Takes in the authorities, if they are others than before.
    async fn follow_issuers(&mut self) {
        let taken = match self.around.store.issuers().await {
            Ok(issuers) => {
                let is_known = |issuer: &Record<store::Issuer>| {
                    let seen = self.seen.get(&issuer.name);
                    seen.is_some_and(|seen| seen.revision == issuer.meta.revision)
                };
                if issuers.len() == self.seen.len() && issuers.iter().all(is_known) {
                    return;
                }
                self.take_issuers(issuers).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            tracing::error!(%error, "the authorities cannot be read");
        }
    }

    async fn take_issuers(
        &mut self,
        issuers: Vec<Record<store::Issuer>>,
    ) -> Result<(), StoreError> {
        let former = std::mem::take(&mut self.seen);
        self.issuers.clear();
        for record in issuers {
            let (name, directory) = (record.name.clone(), &record.spec.directory);
            let (revision, caa) = (record.meta.revision, record.spec.caa.clone());
            let challenge = record.spec.challenge;
            let account = self.around.store.acme_account(&name, directory).await?;
            let account = account.and_then(|account| account.url);
            let error = match Issuer::new(record, &self.around.keys) {
                Ok(issuer) => {
                    self.issuers.push(Arc::new(issuer));
                    former.get(&name).and_then(|seen| seen.error.clone())
                }
                Err(why) => {
                    tracing::error!(issuer = %name, why, "this authority cannot be asked");
                    Some(why)
                }
            };
            self.seen
                .insert(name, Arc::new(IssuerSeen { revision, account, caa, challenge, error }));
        }
        let all: Vec<_> = self.table.kept().keys().cloned().collect();
        all.iter().for_each(|name| self.schedule(name));
        self.is_changed = true;
        Ok(())
    }

    /// Takes in one certificate of the store; one that cannot be opened is there without itself.
    fn take_stored(&mut self, stored: &StoredCertificate) {
        let snapshot = self.around.snapshots.current();
        let shown = snapshot.certificates.find(&stored.name);
        let certificate = open(stored, &self.around.keys)
            .map(|certificate| match shown {
                // What is shown since the start is not shown anew.
                Some(shown) if **shown == certificate => shown.clone(),
                _ => self.table.share(certificate),
            })
            .inspect_err(|why| {
                tracing::error!(name = %stored.name, why, "a certificate cannot be shown");
            })
            .ok();
        self.change(&stored.name, |kept| {
            (kept.source, kept.issuer) = (stored.source, stored.issuer.clone());
            (kept.certificate, kept.renew_at) = (certificate, stored.renew_at);
        });
    }

    fn change(&mut self, name: &Hostname, change: impl FnOnce(&mut Kept)) {
        self.table.change(name, change);
        self.schedule(name);
        self.is_changed = true;
    }

    fn schedule(&mut self, name: &Hostname) {
        if let Some(former) = self.due_at.remove(name) {
            self.due.remove(&(former, name.clone()));
        }
        let kept = self.table.kept().get(name).filter(|_| !self.issuers.is_empty());
        if let Some(at) = kept.and_then(|kept| due_at(kept)) {
            self.due_at.insert(name.clone(), at);
            self.due.insert((at, name.clone()));
        }
    }

    fn cache(&self, former: Option<&StoredCertificate>, latter: Option<&StoredCertificate>) {
        if let Err(error) = self.around.cache.replace(former, latter) {
            tracing::error!(%error, "a certificate cannot be kept for the next start");
        }
    }

    fn next_look(&self) -> Instant {
        let order = self.due.first().filter(|_| self.orders.len() < MOST_ORDERS);
        let ask = self.suggestions.due.first().filter(|_| self.suggestions.has_room());
        let soonest = order.into_iter().chain(ask).min();
        let wait = soonest.map_or(LOOK_ANYWAY, |(at, _)| {
            Duration::from_secs((at - now()).max(0) as u64).min(LOOK_ANYWAY)
        });
        Instant::now() + wait
    }

    async fn put(
        &mut self,
        new: &NewCertificate<'_>,
        certificate: Certificate,
        cause: Cause<'_>,
    ) -> Result<(), StoreError> {
        let former = self.around.store.certificate(new.name).await?;
        let before = self.table.kept().get(new.name).and_then(|kept| kept.summary());
        let audit = (before, summary(&certificate, new.issuer));
        let stored =
            self.around.store.put_certificate(new, &self.around.keys, audit, cause).await?;
        self.cache(former.as_ref(), Some(&stored));
        let certificate = self.table.share(certificate);
        self.change(new.name, |kept| {
            let (wanted, had_one) = (kept.wanted, kept.certificate.is_some());
            let ordered_by = kept.ordered_by;
            *kept = Kept::new(kept.names.clone(), new.source, Some(certificate.clone()));
            if wanted.is_none() || new.source == Source::Upload {
                kept.names = certificate.names.clone();
            }
            (kept.issuer, kept.renew_at) = (new.issuer.cloned(), new.renew_at);
            kept.renewed_at = had_one.then(now);
            kept.wanted = wanted.filter(|_| new.source == Source::Acme);
            kept.ordered_by = ordered_by;
        });
        Ok(())
    }
}

/// When a certificate is to be ordered.
fn due_at(kept: &Kept) -> Option<i64> {
    if kept.wanted.is_none() || kept.is_being_ordered {
        return None;
    }
    let is_for_all = |certificate: &&Arc<Certificate>| {
        kept.names.iter().all(|name| certificate.names.contains(name))
    };
    let current = kept.certificate.as_ref().filter(is_for_all);
    let current = current.filter(|_| kept.source == Source::Acme && !kept.is_forced);
    let by_life = current.map_or(0, |_| kept.renew_at.unwrap_or(0));
    Some(by_life.max(kept.failures.next_at))
}

fn open(stored: &StoredCertificate, keys: &KeyFile) -> Result<Certificate, String> {
    let of = ["certificate", &*stored.name];
    let key = match keys.keys().map_err(|error| error.to_string())?.open(&of, &stored.sealed) {
        Ok(key) => key,
        // The file may have been put back.
        Err(_) => keys
            .read()
            .map_err(|error| error.to_string())?
            .open(&of, &stored.sealed)
            .map_err(|error| error.to_string())?,
    };
    let key = str::from_utf8(&key).map_err(|error| error.to_string())?;
    read::parse(&stored.chain, key).map_err(|error| error.to_string())
}

fn now() -> i64 {
    crate::time::unix_millis() / 1000
}
