//! Asks the DNS for the domains of apps now and then: soon while they are not as they should be, so
//! that one becomes ready without anybody's doing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use weir_config::{AppName, Desired, DesiredApp, Hostname};

use super::{
    Asker, DomainState, Judged, Looked, ProofKind, judge,
    question::{Question, is_by_dns, ownership},
};
use crate::{certificates::Command, reconciler::World, store::Store};

/// Those that are watched, with what was seen of them.
pub(crate) type Domains = imbl::OrdMap<Hostname, Arc<Domain>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Domain {
    pub(crate) app: AppName,
    /// The app's name below the base domain.
    pub(crate) target: Hostname,
    /// Whether the app may have it; else its owner is to say so first.
    pub(crate) is_verified: bool,
    /// `None` until the DNS was asked.
    pub(crate) looked: Option<Looked>,
}

/// Questions on their way at a time.
const AT_ONCE: usize = 8;
/// Of one that is not as it should be: at first, and then twice as long each time.
const SOON: Duration = Duration::from_secs(5);
const AT_THE_LATEST: Duration = Duration::from_secs(300);
/// Of one that is.
const READY: Duration = Duration::from_secs(600);

/// When one is asked for, and how long was waited before.
#[derive(Clone, Copy, Debug)]
struct Turn {
    at: Instant,
    waited: Duration,
}

#[derive(Debug)]
pub(crate) struct Watcher {
    asker: Asker,
    base: Hostname,
    store: Store,
    keeper: mpsc::Sender<Command>,
    domains: Domains,
    turns: BTreeMap<Hostname, Turn>,
    asked: JoinSet<(Hostname, Looked)>,
}

impl Watcher {
    pub(crate) fn new(
        asker: Asker,
        base: Hostname,
        store: Store,
        keeper: mpsc::Sender<Command>,
    ) -> Self {
        let (domains, turns, asked) = (Domains::new(), BTreeMap::new(), JoinSet::new());
        Self { asker, base, store, keeper, domains, turns, asked }
    }

    /// Runs until the loop is gone. `checks` are those that somebody wants to know of now.
    pub(crate) async fn watch(
        mut self,
        mut worlds: watch::Receiver<Arc<World>>,
        mut checks: mpsc::Receiver<Hostname>,
        told: watch::Sender<Domains>,
    ) {
        let mut revision = None;
        loop {
            let world = worlds.borrow_and_update().clone();
            if revision != Some(world.desired.revision) {
                revision = Some(world.desired.revision);
                self.follow(&world.desired);
            }
            self.begin_due(&world);
            told.send_replace(self.domains.clone());
            let next = self.next();
            tokio::select! {
                changed = worlds.changed() => if changed.is_err() { return },
                Some(host) = checks.recv() => self.check_now(&host),
                Some(Ok((host, looked))) = self.asked.join_next() => self.take(&host, looked).await,
                () = sleep_until(next) => {}
            }
        }
    }

    /// Watches what apps have outside the base domain, and nothing else.
    fn follow(&mut self, desired: &Desired) {
        let mut domains = Domains::new();
        for DesiredApp { app, unverified, .. } in desired.apps.values().map(|app| &**app) {
            let target = Hostname::of_app(&app.name, &self.base);
            let all = app.hostnames.iter().map(|h| (h, true));
            for (hostname, is_verified) in all.chain(unverified.iter().map(|h| (h, false))) {
                let host = &hostname.host;
                if host.is_at_or_below(&self.base) {
                    continue;
                }
                let looked = self.domains.get(host).and_then(|former| former.looked.clone());
                let (app, target) = (app.name.clone(), target.clone());
                let domain = Domain { app, target, is_verified, looked };
                domains.insert(host.clone(), Arc::new(domain));
            }
        }
        self.turns.retain(|host, _| domains.contains_key(host));
        for host in domains.keys().filter(|host| !self.domains.contains_key(*host)) {
            self.turns.insert(host.clone(), Turn { at: Instant::now(), waited: Duration::ZERO });
        }
        self.domains = domains;
    }

    fn check_now(&mut self, host: &Hostname) {
        if let Some(turn) = self.turns.get_mut(host) {
            *turn = Turn { at: Instant::now(), waited: Duration::ZERO };
        }
    }

    fn next(&self) -> Instant {
        let latest = Instant::now() + AT_THE_LATEST;
        match self.asked.len() < AT_ONCE {
            true => self.turns.values().map(|turn| turn.at).min().unwrap_or(latest),
            false => latest,
        }
    }

    fn begin_due(&mut self, world: &World) {
        let now = Instant::now();
        let room = AT_ONCE - self.asked.len().min(AT_ONCE);
        let due = self.turns.iter_mut().filter(|(_, turn)| turn.at <= now).take(room);
        for (host, turn) in due {
            let Some(domain) = self.domains.get(host) else { continue };
            // Whatever becomes of the question, another one follows.
            turn.at = now + READY;
            let question = Question {
                asker: self.asker.clone(),
                host: host.clone(),
                domain: domain.clone(),
                base: self.base.clone(),
                served: world.observed.served.clone(),
                ownership: ownership(self.store.cluster_id(), &domain.app, host),
                is_by_dns: is_by_dns(host, world),
            };
            self.asked.spawn(async move { (question.host.clone(), question.ask().await) });
        }
    }

    async fn take(&mut self, host: &Hostname, looked: Looked) {
        let (Some(domain), Some(turn)) = (self.domains.get_mut(host), self.turns.get_mut(host))
        else {
            return;
        };
        let is_ready = |judged: Judged| judged.state == DomainState::Ready;
        let was_ready =
            domain.looked.as_ref().is_some_and(|l| is_ready(judge(host, &domain.target, l)));
        let is_ready = is_ready(judge(host, &domain.target, &looked));
        turn.waited = match is_ready {
            true => READY,
            false => (turn.waited * 2).clamp(SOON, AT_THE_LATEST),
        };
        turn.at = Instant::now() + turn.waited;
        let is_owned = looked.proofs.iter().any(|p| p.kind == ProofKind::Ownership && p.is_seen);
        Arc::make_mut(domain).looked = Some(looked);
        if is_owned && let Err(error) = self.store.domain_is_verified(&domain.app, host).await {
            // It is looked at again, and then it is noted.
            tracing::warn!(%host, %error, "that its owner has verified it is not noted");
        }
        if is_ready && !was_ready {
            // What an authority did not find before it finds now. If nobody listens, all ends.
            let _ = self.keeper.send(Command::Ready(host.clone())).await;
        }
    }
}
