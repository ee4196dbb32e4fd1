//! Which host each instance of an app runs on.
//!
//! The hosts that an app may run on are in an order of its own (rendezvous hashing), and its
//! instances are dealt to them in turns. So they are spread over hosts first; a host that comes
//! takes from each other one at most what is its share, and what a host had that goes is dealt to
//! the others, and nothing else moves. What runs stays where it is, though, for as long as its host
//! keeps it: what is not where it would be dealt to has drifted, and is put right on demand.

use std::{
    cell::{OnceCell, RefCell},
    cmp::Reverse,
    collections::BTreeMap,
    sync::Arc,
};

use weir_config::{
    AppName, Capacity, Deployment, Desired, DesiredApp, Host, HostName, InstanceId, Resources,
    has_labels,
};

use crate::{
    host::HostState,
    instance::Instance,
    observed::Observed,
    served::{own_pool, serves},
};

/// Where the instances of one deployment should be.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Placed {
    /// In order of their ordinals. One that moves is where it was until its copy is ready.
    pub(crate) instances: Vec<InstanceId>,
    /// The copies on other hosts that are on their way, of those that move.
    pub(crate) coming: Vec<InstanceId>,
    /// Why some of them are nowhere, if so they are.
    pub(crate) unplaced: Option<String>,
}

/// What hosts are chosen from, for any number of apps in turn: what is placed counts for the next.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    /// Only counted when a host has a limit and something is to be placed.
    ledger: OnceCell<RefCell<Ledger>>,
}

/// So much of a host.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    instances: u64,
    millicpus: u64,
    memory: u64,
}

/// Instances by host.
type Count = BTreeMap<HostName, u16>;

impl<'a> Places<'a> {
    pub(crate) fn new(desired: &'a Desired, observed: &'a Observed) -> Self {
        Self { desired, observed, ledger: OnceCell::new() }
    }

    /// Chooses a host for each instance of a deployment.
    pub(crate) fn place(&self, app: &DesiredApp, deployment: &Deployment) -> Placed {
        let choice = Choice::new(app, deployment, self);
        let mut allowed = choice.is_converging().then(|| choice.homes());
        let mut used = Count::new();
        let ordinals = 0..app.app.instances;
        let kept = ordinals.map(|ordinal| choice.keep(ordinal, &mut allowed)).collect();
        let kept = choice.spread(kept);
        for host in kept.iter().flatten() {
            *used.entry(host.clone()).or_default() += 1;
        }
        let mut placed = Placed::default();
        for (ordinal, kept) in (0..).zip(kept) {
            let host = kept.or_else(|| choice.deal(&mut used));
            let leaving = choice.leaving(ordinal, host.as_ref());
            match (host, leaving) {
                (Some(host), Some(leaving)) => {
                    placed.instances.push(leaving);
                    placed.coming.push(choice.instance(ordinal, host));
                }
                (Some(host), None) => placed.instances.push(choice.instance(ordinal, host)),
                // Better where it should not be than nowhere.
                (None, _) => match choice.last_resort(ordinal) {
                    Some(host) => placed.instances.push(choice.instance(ordinal, host)),
                    None => placed.unplaced = Some(choice.why_nowhere()),
                },
            }
        }
        self.take(app, deployment, placed.instances.iter().chain(&placed.coming));
        placed
    }

    /// The instances of an app that are on other hosts than they would be dealt to.
    pub(crate) fn drift(&self, app: &DesiredApp) -> Vec<InstanceId> {
        let Some(deployment) = app.target() else { return Vec::new() };
        let choice = Choice::new(app, deployment, self);
        if choice.has_data() {
            return Vec::new();
        }
        let mut homes = choice.homes();
        // There is no better place for these.
        let homeless = app.app.instances - homes.values().sum::<u16>();
        let is_away = |id: &InstanceId| match homes.get_mut(&id.host) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        };
        let there = choice.copies_of_all().map(|(id, _)| id.clone());
        there.filter(is_away).skip(homeless.into()).collect()
    }

    /// The hosts that an app may run on, as far as they are concerned or not.
    pub(crate) fn of(&self, app: &DesiredApp) -> impl Iterator<Item = &'a Arc<Host>> {
        let hosts = self.desired.hosts.values();
        hosts.filter(move |host| may_run_on(self.desired, app, host))
    }

    /// Whether there is room for one more instance of an app. What it has already does not count
    /// but for `own`: those of former deployments leave.
    fn has_room(&self, host: &Host, app: &DesiredApp, one: Load, own: u16) -> bool {
        let Capacity { instances, millicpus, memory } = host.capacity;
        if host.capacity == Capacity::default() {
            return true;
        }
        let ledger = self.ledger.get_or_init(|| RefCell::new(self.count())).borrow();
        let used = ledger.beside(&app.app.name, &host.name).plus(one.times(u64::from(own) + 1));
        let within = |used, limit: Option<u64>| limit.is_none_or(|limit| used <= limit);
        within(used.instances, instances.map(u64::from))
            && within(used.millicpus, millicpus)
            && within(used.memory, memory)
    }

    fn count(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for id in self.observed.instances.keys() {
            let app = self.desired.apps.get(&id.app);
            let deployment = app.and_then(|app| app.target());
            let one = deployment.map_or_else(Load::one, |d| Load::of(&d.template.resources));
            ledger.add(id, one);
        }
        ledger
    }

    /// What is placed now takes its room from those that come next.
    fn take<'i>(
        &self,
        app: &DesiredApp,
        deployment: &Deployment,
        instances: impl Iterator<Item = &'i InstanceId>,
    ) {
        let Some(ledger) = self.ledger.get() else { return };
        let mut ledger = ledger.borrow_mut();
        ledger.forget(&app.app.name);
        let one = Load::of(&deployment.template.resources);
        instances.for_each(|id| ledger.add(id, one));
    }
}

/// Whether a host is one of those that an app may run on, concerned or not.
pub(crate) fn may_run_on(desired: &Desired, app: &DesiredApp, host: &Host) -> bool {
    let placement = &app.app.placement;
    let is_of = |shard| match desired.shards.get(shard) {
        Some(shard) => !shard.hosts.is_empty() && has_labels(host, &shard.hosts),
        None => false,
    };
    placement.takes(host) && placement.shard.as_ref().is_none_or(is_of)
}

/// What is on each host, in all and of each app.
#[derive(Debug, Default)]
struct Ledger {
    all: BTreeMap<HostName, Load>,
    of: BTreeMap<AppName, BTreeMap<HostName, Load>>,
}

impl Ledger {
    fn add(&mut self, id: &InstanceId, one: Load) {
        let all = self.all.entry(id.host.clone()).or_default();
        *all = all.plus(one);
        let own = self.of.entry(id.app.clone()).or_default().entry(id.host.clone()).or_default();
        *own = own.plus(one);
    }

    fn forget(&mut self, app: &AppName) {
        for (host, own) in self.of.remove(app).unwrap_or_default() {
            let all = self.all.entry(host).or_default();
            *all = all.minus(own);
        }
    }

    /// What other apps than this one have on a host.
    fn beside(&self, app: &AppName, host: &HostName) -> Load {
        let own = self.of.get(app).and_then(|own| own.get(host)).copied().unwrap_or_default();
        self.all.get(host).copied().unwrap_or_default().minus(own)
    }
}

impl Load {
    fn one() -> Self {
        Self { instances: 1, ..Self::default() }
    }

    fn of(resources: &Resources) -> Self {
        let Resources { millicpus, memory, .. } = resources;
        let millicpus = u64::from(millicpus.unwrap_or_default());
        Self { instances: 1, millicpus, memory: memory.unwrap_or_default() }
    }

    fn times(self, n: u64) -> Self {
        Self {
            instances: self.instances * n,
            millicpus: self.millicpus * n,
            memory: self.memory.saturating_mul(n),
        }
    }

    fn plus(self, more: Self) -> Self {
        Self {
            instances: self.instances + more.instances,
            millicpus: self.millicpus + more.millicpus,
            memory: self.memory.saturating_add(more.memory),
        }
    }

    fn minus(self, less: Self) -> Self {
        Self {
            instances: self.instances.saturating_sub(less.instances),
            millicpus: self.millicpus.saturating_sub(less.millicpus),
            memory: self.memory.saturating_sub(less.memory),
        }
    }
}

/// What there is to choose from for one app.
struct Choice<'a> {
    app: &'a DesiredApp,
    deployment: &'a Deployment,
    places: &'a Places<'a>,
    /// Those that it may run on, in its own order.
    hosts: Vec<&'a Arc<Host>>,
}

impl<'a> Choice<'a> {
    fn new(app: &'a DesiredApp, deployment: &'a Deployment, places: &'a Places<'a>) -> Self {
        let mut hosts: Vec<_> = places.of(app).collect();
        hosts.sort_by_cached_key(|host| Reverse((host.score(&app.app.name), host.name.clone())));
        Self { app, deployment, places, hosts }
    }

    fn instance(&self, ordinal: u16, host: HostName) -> InstanceId {
        let (app, deployment) = (self.app.app.name.clone(), self.deployment.number);
        InstanceId { app, deployment, ordinal, host }
    }

    /// A volume is on one host, and what is in it does not move.
    fn has_data(&self) -> bool {
        !self.deployment.template.volumes.is_empty()
    }

    fn is_converging(&self) -> bool {
        let state = self.places.observed.apps.get(&self.app.app.name);
        !self.has_data() && state.is_some_and(|state| state.converging)
    }

    /// What there is of this deployment, and where there are volumes of those before it.
    fn copies_of_all(&self) -> impl Iterator<Item = (&'a InstanceId, &'a Instance)> {
        let (number, has_data) = (self.deployment.number, self.has_data());
        let observed = self.places.observed;
        let seen = observed.instances_of(&self.app.app.name);
        // What was served on a host whose containers are not known is taken to be there.
        let served = own_pool(&observed.served, &self.app.app.name).into_iter();
        let served = served.flat_map(|pool| pool.endpoints()).filter_map(|e| e.id.instance());
        let believed = served.filter(move |id| !observed.host(&id.host).is_listed());
        let all = seen.chain(believed.map(|id| (id, Instance::unseen())));
        all.filter(move |(id, _)| id.deployment == number || has_data)
    }

    fn copies(&self, ordinal: u16) -> impl Iterator<Item = (&'a InstanceId, &'a Instance)> {
        self.copies_of_all().filter(move |(id, _)| id.ordinal == ordinal)
    }

    /// The host on which an instance stays. Of several copies, which there are while it moves or
    /// when a lost host returns, it is the one that serves. `allowed` are the only ones, if any.
    fn keep(&self, ordinal: u16, allowed: &mut Option<Count>) -> Option<HostName> {
        let is_allowed = |host: &HostName| {
            allowed.as_ref().is_none_or(|left| left.get(host).is_some_and(|left| *left > 0))
        };
        let keeps = |(id, _): &(&InstanceId, _)| self.keeps(&id.host) && is_allowed(&id.host);
        let rank = |host: &HostName| self.hosts.iter().position(|other| other.name == *host);
        let served = &self.places.observed.served;
        let best = self.copies(ordinal).filter(keeps).max_by_key(|(id, instance)| {
            let serves = serves(served, &(*id).clone().into());
            (id.deployment, instance.is_ready(), serves, Reverse(rank(&id.host)))
        });
        let host = best.map(|(id, _)| id.host.clone())?;
        if let Some(left) = allowed.as_mut().and_then(|left| left.get_mut(&host)) {
            *left -= 1;
        }
        Some(host)
    }

    /// Whether a host keeps what it has.
    fn keeps(&self, name: &HostName) -> bool {
        let Some(host) = self.hosts.iter().find(|other| other.name == *name) else { return false };
        let is_lost = self.places.observed.host(name).state == HostState::Lost;
        self.has_data() || !(host.draining || (is_lost && host.disconnect.replace))
    }

    /// Lets some go of which the app has enough in their regions, for as long as it is in fewer than
    /// it demands and others have room.
    fn spread(&self, mut kept: Vec<Option<HostName>>) -> Vec<Option<HostName>> {
        let demanded = usize::from(self.app.app.placement.regions);
        if demanded < 2 || self.has_data() {
            return kept;
        }
        loop {
            let mut counts: BTreeMap<Option<&str>, u16> = BTreeMap::new();
            let mut used = Count::new();
            for host in kept.iter().flatten() {
                *counts.entry(self.region(host)).or_default() += 1;
                *used.entry(host.clone()).or_default() += 1;
            }
            // Those that are nowhere yet go elsewhere by themselves.
            let missing = kept.iter().filter(|host| host.is_none()).count();
            if counts.len() + missing >= demanded {
                return kept;
            }
            let goes_to = self.deal(&mut used.clone());
            let is_new = |host: &HostName| !counts.contains_key(&self.region(host));
            let fullest = counts.iter().max_by_key(|(_, count)| **count);
            let Some((fullest, 2..)) = fullest.filter(|_| goes_to.as_ref().is_some_and(is_new))
            else {
                return kept;
            };
            let is_of = |host: &Option<HostName>| {
                host.as_ref().is_some_and(|host| self.region(host) == *fullest)
            };
            let Some(last) = kept.iter().rposition(is_of) else { return kept };
            kept[last] = None;
        }
    }

    /// The region of a host, if it has one.
    fn region(&self, name: &HostName) -> Option<&'a str> {
        let host = self.hosts.iter().find(|host| host.name == *name)?;
        host.region.as_deref()
    }

    /// A host for one more instance: of those with the fewest, the first; for an app that demands
    /// several regions, in the region with the fewest.
    fn deal(&self, used: &mut Count) -> Option<HostName> {
        let one = Load::of(&self.deployment.template.resources);
        let count = |host: &Host| used.get(&host.name).copied().unwrap_or_default();
        let takes = |host: &&&Arc<Host>| {
            let is_ready = self.places.observed.host(&host.name).state == HostState::Ready;
            host.is_open() && is_ready && self.places.has_room(host, self.app, one, count(host))
        };
        let in_region = |host: &Host| match self.app.app.placement.regions {
            ..2 => 0,
            _ => {
                let of_region = self.hosts.iter().filter(|other| other.region == host.region);
                of_region.map(|other| count(other)).sum::<u16>()
            }
        };
        let fewest = |host: &&&Arc<Host>| (in_region(host), count(host));
        let host = self.hosts.iter().filter(takes).min_by_key(fewest)?;
        *used.entry(host.name.clone()).or_default() += 1;
        Some(host.name.clone())
    }

    /// How many instances each host has when all of them are dealt anew.
    fn homes(&self) -> Count {
        let mut homes = Count::new();
        for _ in 0..self.app.app.instances {
            if self.deal(&mut homes).is_none() {
                break;
            }
        }
        homes
    }

    /// The copy that stands for an instance until the one on `host` is ready: one that has been
    /// ready, and is where it cannot stay.
    fn leaving(&self, ordinal: u16, host: Option<&HostName>) -> Option<InstanceId> {
        let host = host?;
        let number = self.deployment.number;
        let of_number = |(id, _): &(&InstanceId, _)| id.deployment == number;
        let (there, others): (Vec<_>, Vec<_>) =
            self.copies(ordinal).filter(of_number).partition(|(id, _)| id.host == *host);
        let others = others.into_iter().filter(|(_, instance)| instance.proven);
        let (leaving, instance) = others.max_by_key(|(_, instance)| instance.is_ready())?;
        // While it sleeps, a copy that has been ready and sleeps is as good.
        let takes_over = |copy: &Instance| {
            copy.is_ready() || (!instance.is_ready() && copy.proven && copy.sleeps().is_some())
        };
        (!there.iter().any(|(_, copy)| takes_over(copy))).then(|| leaving.clone())
    }

    /// Where an instance is that no host takes.
    fn last_resort(&self, ordinal: u16) -> Option<HostName> {
        let known = |(id, _): &(&InstanceId, _)| self.places.desired.hosts.contains_key(&id.host);
        let best = self.copies(ordinal).filter(known).max_by_key(|(_, i)| i.is_ready());
        best.map(|(id, _)| id.host.clone())
    }

    fn why_nowhere(&self) -> String {
        let ready =
            |host: &&&Arc<Host>| self.places.observed.host(&host.name).state == HostState::Ready;
        let open = self.hosts.iter().filter(|host| host.is_open());
        let reason = if self.hosts.is_empty() {
            "no host is one of those that its `placement` asks for"
        } else if open.clone().next().is_none() {
            "every host that it may run on is cordoned or draining"
        } else if open.clone().find(ready).is_none() {
            "no host that it may run on answers"
        } else {
            "no host that it may run on has room"
        };
        reason.to_owned()
    }
}
