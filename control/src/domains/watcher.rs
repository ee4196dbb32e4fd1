//! Asks the DNS for the domains of apps now and then: soon while they are not as they should be, so
//! that one becomes ready without anybody's doing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use weir_config::{AppName, Desired, DnsName, Hostname};

use super::{Asker, DomainState, Judged, Looked, judge};
use crate::{certificates::Command, reconciler::World, time::unix_millis};

/// Those that are watched, with what was seen of them.
pub(crate) type Domains = imbl::OrdMap<Hostname, Arc<Domain>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Domain {
    pub(crate) app: AppName,
    /// The app's name below the base domain.
    pub(crate) target: Hostname,
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
#[derive(Clone, Copy)]
struct Turn {
    at: Instant,
    waited: Duration,
}

struct Watcher {
    asker: Asker,
    base: Hostname,
    domains: Domains,
    turns: BTreeMap<Hostname, Turn>,
    asked: JoinSet<(Hostname, Looked)>,
    keeper: mpsc::Sender<Command>,
}

/// Runs until the loop is gone. `checks` are those that somebody wants to know of now.
pub(crate) async fn watch(
    asker: Asker,
    base: Hostname,
    mut worlds: watch::Receiver<Arc<World>>,
    mut checks: mpsc::Receiver<Hostname>,
    told: watch::Sender<Domains>,
    keeper: mpsc::Sender<Command>,
) {
    let (domains, turns, asked) = (Domains::new(), BTreeMap::new(), JoinSet::new());
    let mut watcher = Watcher { asker, base, domains, turns, asked, keeper };
    let mut revision = None;
    loop {
        let world = worlds.borrow_and_update().clone();
        if revision != Some(world.desired.revision) {
            revision = Some(world.desired.revision);
            watcher.follow(&world.desired);
        }
        watcher.begin_due();
        told.send_replace(watcher.domains.clone());
        let next = watcher.next();
        tokio::select! {
            changed = worlds.changed() => if changed.is_err() { return },
            Some(host) = checks.recv() => watcher.check_now(&host),
            Some(Ok((host, looked))) = watcher.asked.join_next() => watcher.take(&host, looked).await,
            () = sleep_until(next) => {}
        }
    }
}

impl Watcher {
    /// Watches what apps have outside the base domain, and nothing else.
    fn follow(&mut self, desired: &Desired) {
        let mut domains = Domains::new();
        for app in desired.apps.values().map(|app| &app.app) {
            let target = Hostname::of_app(&app.name, &self.base);
            for host in app.hostnames.iter().map(|hostname| &hostname.host) {
                let is_below = host
                    .strip_suffix(&*self.base)
                    .is_some_and(|r| r.is_empty() || r.ends_with('.'));
                if is_below || host.starts_with("*.") {
                    continue;
                }
                let former = self.domains.get(host).and_then(|former| former.looked.clone());
                let (app, target) = (app.name.clone(), target.clone());
                domains.insert(host.clone(), Arc::new(Domain { app, target, looked: former }));
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

    fn begin_due(&mut self) {
        let now = Instant::now();
        let room = AT_ONCE - self.asked.len().min(AT_ONCE);
        let due = self.turns.iter_mut().filter(|(_, turn)| turn.at <= now).take(room);
        for (host, turn) in due {
            let Some(domain) = self.domains.get(host) else { continue };
            // Whatever becomes of the question, another one follows.
            turn.at = now + READY;
            let (asker, host, target) = (self.asker.clone(), host.clone(), domain.target.clone());
            self.asked.spawn(async move {
                let looked = look(&asker, &host, &target).await;
                (host, looked)
            });
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
        Arc::make_mut(domain).looked = Some(looked);
        if is_ready && !was_ready {
            // What an authority did not find before it finds now. If nobody listens, all ends.
            let _ = self.keeper.send(Command::Ready(host.clone())).await;
        }
    }
}

async fn look(asker: &Asker, host: &Hostname, target: &Hostname) -> Looked {
    let (name, target) = (DnsName::from(host), DnsName::from(target));
    let (leads_to, here, authorizations) =
        tokio::join!(asker.addresses(&name), asker.addresses(&target), asker.authorizations(&name));
    Looked { leads_to, here, authorizations, at: unix_millis() }
}
