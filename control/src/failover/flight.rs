//! One policy's pilot at work: sends its probes, reads the counters, keeps what it decides before
//! that is served, and sees when it is.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use weir_config::{
    DnsName, FailoverPolicy, FailoverTarget, Moment, Snapshot, Steering, TargetPlace,
};
use weir_failover::{Decision, Health, Incident, Order};

use super::{
    ask::{Asked, addresses},
    counters,
    handle::{Command, FailoverOrder, FailoverStatus, NotObeyed},
    keeper::Around,
    pilot::{Decided, Heard, Kept, Pilot, Probe, Watched},
    saver::{Record, Saver},
    words::{self, FailoverTrouble},
};
use crate::{
    event::Event,
    observed::{PolicySeen, TargetSeen},
    reconciler::World,
};

/// A store that takes longer than this keeps nobody on what is dead: what was decided is served,
/// and kept when it can be.
const PATIENCE: Duration = Duration::from_secs(1);
/// What has become of probes waits to be taken in.
const QUEUE: usize = 256;

/// What became of a probe: of which target, sent when.
type Probed = (usize, Moment, Heard);
type Reply = oneshot::Sender<Result<FailoverStatus, NotObeyed>>;

/// One policy's controller at work.
pub(super) struct Flight {
    around: Arc<Around>,
    pilot: Pilot,
    asked: Vec<Asked>,
    saver: Saver,
    heard: (mpsc::Sender<Probed>, mpsc::Receiver<Probed>),
    /// What is to be served once it is kept, and until when that is waited for.
    to_serve: Option<(u64, Steering, Moment)>,
    /// What the loop was told to serve, as it was told last.
    told: Option<Arc<PolicySeen>>,
    steering: Steering,
    /// What is wrong, as of the last decision or a moment ago.
    trouble: Option<FailoverTrouble>,
    /// Which epoch is to be seen served, and the generation that was looked at last.
    awaited: Option<(u64, u64)>,
    /// Those who gave orders, which are kept with this number.
    replies: Vec<(u64, Moment, Reply)>,
    /// What the apps that are served by the policy had sent again.
    retried: Option<u64>,
    last: Option<Incident>,
}

impl Flight {
    /// Flies until the loop or the policy is gone.
    pub(super) async fn fly(
        around: Arc<Around>,
        mut policies: watch::Receiver<Arc<FailoverPolicy>>,
        kept: Option<(Kept, Steering)>,
        mut worlds: watch::Receiver<Arc<World>>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let policy = policies.borrow_and_update().clone();
        let (incident, last) = incidents(&around, &policy).await;
        let pilot = Pilot::new(policy.clone(), kept, incident, around.now(), rand::random());
        let (saver, saving) = Saver::new(around.with.store.clone(), policy.name.clone());
        let mut flight = Self {
            steering: *pilot.served(),
            pilot,
            asked: Vec::new(),
            saver,
            heard: mpsc::channel(QUEUE),
            to_serve: None,
            told: None,
            trouble: None,
            awaited: None,
            replies: Vec::new(),
            retried: None,
            last,
            around,
        };
        flight.prepare(&worlds.borrow_and_update());
        tokio::select! {
            () = saving => {}
            () = flight.run(&mut policies, &mut worlds, &mut commands) => {}
        }
    }

    async fn run(
        &mut self,
        policies: &mut watch::Receiver<Arc<FailoverPolicy>>,
        worlds: &mut watch::Receiver<Arc<World>>,
        commands: &mut mpsc::Receiver<Command>,
    ) {
        let mut cut_off = self.around.references.is_cut_off.clone();
        let snapshots = self.around.with.snapshots.clone();
        loop {
            let now = self.around.now();
            self.turn(now);
            if self.tell().await.is_err() {
                return;
            }
            let pause = self.next(now).since(self.around.now());
            let seen = self.awaited.map(|(_, generation)| generation);
            let newer = async {
                match seen {
                    Some(seen) => snapshots.newer_than(seen).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(probed) = self.heard.1.recv() => self.hear(probed),
                changed = cut_off.changed() => match changed {
                    Ok(()) => self.pilot.set_cut_off(*cut_off.borrow_and_update()),
                    Err(_) => return,
                },
                Ok(()) = self.saver.saved.changed() => self.is_kept(),
                changed = policies.changed() => match changed {
                    Ok(()) => {
                        let policy = policies.borrow_and_update().clone();
                        self.pilot.change(policy, self.around.now());
                        (self.to_serve, self.steering) = (None, *self.pilot.served());
                        self.prepare(&worlds.borrow());
                        self.save();
                    }
                    Err(_) => return,
                },
                changed = worlds.changed() => match changed {
                    Ok(()) => {
                        let world = worlds.borrow_and_update().clone();
                        self.locate(&world);
                    }
                    Err(_) => return,
                },
                Some(command) = commands.recv() => self.obey(command),
                snapshot = newer => self.look_for_it(&snapshot),
                () = sleep(pause) => {}
            }
        }
    }

    /// Sends the probes that are due, reads the counters, and decides.
    fn turn(&mut self, now: Moment) {
        while let Ok(probed) = self.heard.1.try_recv() {
            self.hear(probed);
        }
        for probe in self.pilot.probes(now) {
            self.send(probe, now);
        }
        let is_time_to_tell = self.pilot.is_time_to_tell(now);
        let looks = self.pilot.is_tick(now) || is_time_to_tell;
        let snapshot = self.around.with.snapshots.current();
        let policy = self.pilot.policy();
        let levels = looks.then(|| counters::levels(&snapshot, policy));
        if let Some(levels) = &levels {
            self.pilot.look(levels, now);
        }
        if self.pilot.is_in_doubt() {
            self.around.references.doubt();
        }
        let told = levels.filter(|_| is_time_to_tell);
        let decided = self.pilot.decide(told.as_deref(), now);
        if is_time_to_tell {
            let retried = counters::retried(&snapshot, &self.pilot.policy().name);
            let before = self.retried.replace(retried).unwrap_or(retried);
            self.pilot.count_retried(retried.saturating_sub(before));
            let healths = self.pilot.targets().iter().map(|watched| watched.health);
            self.around.with.metrics.look(self.pilot.policy(), healths);
        }
        let is_news = self.carry_out(decided, now).is_some();
        if is_news || is_time_to_tell {
            let journal = self.pilot.journal();
            let policy = self.pilot.policy();
            self.trouble = words::trouble(policy, journal.state(), journal.incident());
        }
        if self.to_serve.as_ref().is_some_and(|(.., until)| *until <= now) {
            tracing::error!(
                policy = &*self.pilot.policy().name,
                "what was decided is served before it is kept: the store takes too long"
            );
            self.serve();
        }
        for (.., reply) in self.replies.extract_if(.., |(_, until, _)| *until <= now) {
            let _ = reply.send(Err(NotObeyed::NotKept));
        }
    }

    /// When the next turn is due.
    fn next(&self, now: Moment) -> Moment {
        let waits = self.to_serve.iter().map(|(.., until)| *until);
        let waits = waits.chain(self.replies.iter().map(|(_, until, _)| *until)).min();
        let next = self.pilot.next(now);
        waits.map_or(next, |until| until.min(next))
    }

    fn hear(&mut self, (target, sent, heard): Probed) {
        self.pilot.heard(target, sent, heard, self.around.now());
    }

    /// Sends a probe. One that finds no room is not sent, and says nothing.
    fn send(&self, probe: Probe, sent: Moment) {
        let Ok(room) = self.around.probes.clone().try_acquire_owned() else { return };
        let Probe { target, address, patience } = probe;
        let (asked, heard) = (self.asked[target].clone(), self.heard.0.clone());
        tokio::spawn(async move {
            let _room = room;
            // The policy may be gone.
            let late = async || {
                let _ = heard.send((target, sent, Heard::Late)).await;
            };
            let told = asked.ask(SocketAddr::new(address, 0), patience, late).await;
            let _ = heard.send((target, sent, told)).await;
        });
    }

    /// Has what was decided kept, and then served; tells of it. Returns the number that it is kept
    /// with, if there is anything to keep.
    fn carry_out(&mut self, decided: Decided, now: Moment) -> Option<u64> {
        if decided.decisions.is_empty() && decided.steering.is_none() {
            return None;
        }
        let number = self.save();
        match decided.steering {
            Some(steering) => {
                self.around.with.metrics.shifted(self.pilot.policy());
                let until = self.to_serve.map_or(now + PATIENCE, |(.., until)| until);
                self.to_serve = Some((number, steering, until));
            }
            // What was to be served goes with the newer state.
            None => {
                if let Some((of, ..)) = &mut self.to_serve {
                    *of = number;
                }
            }
        }
        for decision in &decided.decisions {
            self.note(decision);
        }
        let incident = decided.closed.as_ref().or_else(|| self.pilot.journal().incident());
        if let Some(incident) = incident {
            self.keep_incident(incident);
        }
        if let Some(closed) = decided.closed {
            let detail = words::closing(self.pilot.policy(), &closed);
            tracing::info!(policy = &*self.pilot.policy().name, detail, "a failover is over");
            self.saver.record(Record::Line { action: "closed", detail });
            self.around.with.metrics.is_over(&closed.figures());
            self.last = Some(closed);
        }
        Some(number)
    }

    fn save(&mut self) -> u64 {
        // What is read back with every restart can be written.
        let kept = serde_json::to_string(&self.pilot.kept(self.around.now())).unwrap_or_default();
        self.saver.save(kept, *self.pilot.served())
    }

    fn note(&self, decision: &Decision) {
        let policy = self.pilot.policy();
        let Some((action, detail)) = self.line(decision) else { return };
        tracing::warn!(policy = &*policy.name, action, detail, "failover");
        self.around.with.metrics.decided(policy, action);
        self.saver.record(Record::Line { action, detail });
    }

    fn line(&self, decision: &Decision) -> Option<(&'static str, String)> {
        let error = |target: usize| self.pilot.targets().get(target)?.error.clone();
        words::line(decision, self.pilot.policy(), error)
    }

    fn keep_incident(&self, incident: &Incident) {
        let Ok(text) = serde_json::to_string(incident) else { return };
        let (opened, closed) = (incident.opened, incident.closed);
        self.saver.record(Record::Incident { opened, closed, text });
    }

    /// The store has taken something down.
    fn is_kept(&mut self) {
        let Some((kept, _)) = *self.saver.saved.borrow_and_update() else { return };
        if self.to_serve.as_ref().is_some_and(|(number, ..)| *number <= kept) {
            self.serve();
        }
        for (.., reply) in self.replies.extract_if(.., |(number, ..)| *number <= kept) {
            let _ = reply.send(Ok(self.pilot.status(self.last.as_ref())));
        }
    }

    /// What was decided is to be served from now on: the loop is told with the next turn.
    fn serve(&mut self) {
        if let Some((_, steering, _)) = self.to_serve.take() {
            self.steering = steering;
            let generation = self.around.with.snapshots.current().generation;
            self.awaited = Some((steering.epoch, generation));
        }
    }

    /// Sees whether what was decided is in what is served.
    fn look_for_it(&mut self, snapshot: &Snapshot) {
        let Some((epoch, generation)) = &mut self.awaited else { return };
        *generation = snapshot.generation;
        let Some(steered) = snapshot.policy(&self.pilot.policy().name) else { return };
        if steered.steering.epoch < *epoch {
            return;
        }
        let left = counters::left(steered);
        self.pilot.is_served(steered.steering.epoch, &left, self.around.now());
        self.awaited = None;
        if let Some(incident) = self.pilot.journal().incident() {
            self.keep_incident(incident);
        }
    }

    /// Tells the loop how the policy is to be served, if that is news.
    async fn tell(&mut self) -> Result<(), mpsc::error::SendError<Event>> {
        let policy = self.pilot.policy();
        let target = |(meant, seen): (&FailoverTarget, &Watched)| {
            let good_since = seen.good_since.map(|since| self.around.clock.own(since));
            TargetSeen {
                name: meant.name.clone(),
                addresses: seen.addresses.clone(),
                is_down: seen.health == Health::Down,
                good_since: good_since.unwrap_or_default(),
            }
        };
        let targets = policy.targets.iter().zip(self.pilot.targets()).map(target).collect();
        let trouble = self.trouble.clone();
        let seen = PolicySeen { steering: self.steering, targets, trouble };
        if self.told.as_ref().is_some_and(|told| **told == seen) {
            return Ok(());
        }
        let seen = Arc::new(seen);
        self.told = Some(seen.clone());
        self.around.with.events.send(Event::Steered(policy.name.clone(), seen)).await
    }

    /// Makes ready what targets are asked, and finds out where they are.
    fn prepare(&mut self, world: &World) {
        let policy = self.pilot.policy();
        let (own, hostname) = (self.around.with.own, &policy.hostnames[0]);
        let asked = policy.targets.iter().map(|target| Asked::of(target, hostname, own));
        self.asked = asked.collect();
        self.locate(world);
    }

    /// Where targets are, by what was looked up; until then, where they were when they were served
    /// last.
    fn locate(&mut self, world: &World) {
        let policy = self.pilot.policy().clone();
        let served = world.observed.served.policy(&policy.name);
        for (place, target) in policy.targets.iter().enumerate() {
            let found = addresses(&target.place, self.around.with.own).or_else(|| {
                let TargetPlace::Cdn(name) = &target.place else { return None };
                let found = world.observed.zones.resolved(&DnsName::from(name))?;
                Some(found.all().collect())
            });
            let known = &self.pilot.targets()[place].addresses;
            let found: Option<Vec<IpAddr>> = found.or_else(|| {
                let endpoints = served?.pool(&target.name)?.endpoints().iter();
                Some(endpoints.map(|endpoint| endpoint.address.ip()).collect())
            });
            // A name that leads nowhere any more is served where it led last.
            let mut seen = BTreeSet::new();
            let mut found = found.unwrap_or_default();
            found.retain(|address| seen.insert(*address));
            if !found.is_empty() && found != *known {
                self.pilot.locate(place, found);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = self.around.now();
        // Whoever asked may have given up.
        match command {
            Command::Status(reply) => {
                let _ = reply.send(self.pilot.status(self.last.as_ref()));
            }
            Command::Simulate(simulation, reply) => {
                let _ = reply.send(self.pilot.simulate(&simulation, now));
            }
            Command::Order(order, reply) => match self.order(order, now) {
                Err(error) => drop(reply.send(Err(error))),
                Ok(order) => {
                    self.pilot.obey(order);
                    let decided = self.pilot.decide(None, now);
                    match self.carry_out(decided, now) {
                        Some(number) => self.replies.push((number, now + PATIENCE, reply)),
                        None => drop(reply.send(Ok(self.pilot.status(self.last.as_ref())))),
                    }
                }
            },
        }
    }

    fn order(&self, order: FailoverOrder, now: Moment) -> Result<Order, NotObeyed> {
        Ok(match order {
            FailoverOrder::Freeze(span) => Order::Freeze { until: now + span },
            FailoverOrder::Release => Order::Release,
            FailoverOrder::Force(name, span) => {
                let targets = &self.pilot.policy().targets;
                let target = targets.iter().position(|target| target.name == name);
                let target = target.ok_or(NotObeyed::NoTarget(name))?;
                Order::Force { target, until: now + span }
            }
        })
    }
}

/// The incident that was going on, and the last one that is over.
async fn incidents(
    around: &Around,
    policy: &FailoverPolicy,
) -> (Option<Incident>, Option<Incident>) {
    let read = match around.with.store.failover_incidents(&policy.name).await {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%error, "former failovers cannot be read");
            Vec::new()
        }
    };
    let find = |is_over: bool| {
        let text = read.iter().find(|(_, over)| *over == is_over).map(|(text, _)| text)?;
        serde_json::from_str(text).ok()
    };
    (find(false), find(true))
}
