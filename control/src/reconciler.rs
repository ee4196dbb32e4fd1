//! The loop without its surroundings: what is meant, what is seen, and what follows.
//!
//! No I/O, no clock, no chance: the reactor drives it in production, the tests in virtual time.

use std::{collections::BTreeSet, sync::Arc};

use weir_config::{
    Activity, AppName, Desired, DesiredApp, FailoverName, FailoverPolicy, Moment, Shard, Snapshot,
    ZoneName,
};

use crate::{
    action::Action,
    agenda::{Agenda, Scope},
    event::{DesiredChange, Event},
    gate::{Gate, Refusals},
    observed::{Observed, PolicySeen, users},
    plan::{Plan, plan},
    quarantine::Quarantine,
    subject::Subject,
};

/// The world at one moment: everything that decisions are made from.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) desired: Desired,
    pub(crate) observed: Observed,
    /// Who is served as before, though the plan would change it.
    pub(crate) refusals: Refusals,
}

impl World {
    pub(crate) fn new(desired: Desired, observed: Observed) -> Self {
        Self { desired, observed, refusals: Refusals::new() }
    }
}

#[derive(Debug)]
pub(crate) struct Reconciler {
    pub(crate) world: World,
    agenda: Agenda,
    gate: Gate,
}

impl Reconciler {
    /// One that wants nothing yet: begin with a change that is all there is, because to a plan
    /// without apps every app that is served would be gone.
    pub(crate) fn new(observed: Observed, quarantine: Quarantine) -> Self {
        let gate = Gate::new(&observed.served, quarantine);
        Self { world: World::new(Desired::default(), observed), agenda: Agenda::default(), gate }
    }

    /// Takes in something that happened.
    pub(crate) fn take(&mut self, event: Event, activity: &Activity, now: Moment) {
        match event {
            Event::Desired(change) => self.change(change, activity, now),
            Event::Steered(policy, seen) => self.steered(policy, seen),
            Event::SnapshotConfirmed => {
                self.gate.confirm();
                let refused = self.gate.refusals().keys().cloned();
                refused.for_each(|subject| self.agenda.touch(subject));
            }
            event => {
                let World { desired, observed, .. } = &mut self.world;
                observed.apply(event, desired, now, &mut self.agenda);
            }
        }
    }

    /// What follows by now; `None` if nothing can.
    pub(crate) fn plan(&mut self, activity: &Activity, now: Moment) -> Option<Plan> {
        let mut scope = self.agenda.take(now)?;
        if let Scope::Some(subjects) = &mut scope {
            subjects.extend(self.gate.held().cloned());
        }
        let World { desired, observed, refusals } = &mut self.world;
        match &scope {
            Scope::Everything => observed.sample_all(activity),
            Scope::Some(subjects) => subjects.iter().for_each(|s| observed.sample(s, activity)),
        }
        let mut plan = plan(desired, observed, activity, now, &scope);
        let offered = plan.snapshot.take();
        plan.snapshot = self.gate.check(offered, plan.subjects.keys(), desired, observed, now);
        *refusals = self.gate.refusals().clone();
        for (subject, planned) in &plan.subjects {
            let look_again = self.gate.look_again(subject, now);
            self.agenda.plan_again(subject, planned.wake_at.into_iter().chain(look_again).min());
            if let (Subject::App(app), Some(level)) = (subject, planned.asleep) {
                observed.fell_asleep(app, level);
            }
            if let (Subject::App(app), true) = (subject, planned.converged) {
                observed.has_converged(app);
            }
            if let (Subject::Zone(zone), true) = (subject, planned.is_settled) {
                observed.zones.is_served(zone);
            }
        }
        Some(plan)
    }

    /// Notes that an action of the plan has been begun: what it acts on may take no request any more.
    pub(crate) fn begun(&mut self, action: &Action, now: Moment) {
        self.agenda.touch_instance(action.instance());
        self.world.observed.begun(action, now);
    }

    /// Notes that what the plan decided of this one is on its way to the store, and comes back from
    /// there.
    pub(crate) fn recording(&mut self, subject: &Subject) {
        self.world.observed.recording(subject);
    }

    /// Notes that an action of the plan found no room: it is planned again when there is some, if
    /// it is still right then.
    pub(crate) fn postponed(&mut self, subject: Subject) {
        self.agenda.postpone(subject);
    }

    /// Notes that the plan's snapshot is served, which may allow the next step of `changed`.
    pub(crate) fn published(
        &mut self,
        snapshot: Arc<Snapshot>,
        changed: BTreeSet<Subject>,
        now: Moment,
    ) {
        self.gate.published(&self.world.observed.served, &snapshot, &changed);
        self.world.observed.published(snapshot, &changed, now);
        changed.into_iter().for_each(|subject| self.agenda.touch(subject));
    }

    /// When to plan again though nothing happens.
    pub(crate) fn next_due(&self) -> Moment {
        self.agenda.next_due()
    }

    fn change(&mut self, change: DesiredChange, activity: &Activity, now: Moment) {
        let subjects = change.subjects();
        // The revision is served, though it changes nothing here.
        self.agenda.touch_nobody();
        self.tell_gate(&change);
        if change.whole {
            self.remove_others(&change, activity, now);
            self.agenda.touch_everything();
        }
        let World { desired, observed, .. } = &mut self.world;
        let has_other_hosts = !change.hosts.is_empty();
        for (name, host) in change.hosts {
            // A change of it may move any app.
            self.agenda.touch_everything();
            desired.unreadable_hosts.remove(&name);
            observed.host_changed(&name, host.as_deref(), change.whole, now);
            match host {
                Some(host) => _ = desired.hosts.insert(name, host),
                None => _ = desired.hosts.remove(&name),
            }
        }
        for (name, shard) in change.shards {
            // So may that of a shard's hosts.
            let hosts = |shard: &Shard| shard.hosts.clone();
            let former = desired.shards.get(&name).map(|shard| hosts(shard));
            if former.unwrap_or_default() != shard.as_deref().map(hosts).unwrap_or_default() {
                self.agenda.touch_everything();
            }
            desired.unreadable_shards.remove(&name);
            let members = shard.as_ref().map_or(&[][..], |shard| &shard.members);
            observed.shard_changed(&name, members, now);
            match shard {
                Some(shard) => _ = desired.shards.insert(name, shard),
                None => _ = desired.shards.remove(&name),
            }
        }
        for (name, zone) in change.zones {
            desired.unreadable_zones.remove(&name);
            let change = zone.as_ref().map(|(zone, touched)| (&zone.zone, touched));
            self.agenda.touch_zones(observed.zones.zone_changed(&name, change));
            match zone {
                Some((zone, _)) => _ = desired.zones.insert(name, zone),
                None => _ = desired.zones.remove(&name),
            }
        }
        if has_other_hosts {
            self.hosts_changed(!change.whole);
        }
        for (name, policy) in change.policies {
            self.world.desired.unreadable_policies.remove(&name);
            self.policy_changed(&name, policy, !change.whole);
        }
        for (name, app) in change.apps {
            self.world.desired.unreadable.remove(&name);
            self.names_changed(&name, app.as_deref(), !change.whole);
            match app {
                Some(app) => {
                    let World { desired, observed, .. } = &mut self.world;
                    let former = desired.apps.get(&name).map(Arc::as_ref);
                    observed.app_changed(former, &app, now);
                    desired.apps.insert(name, app);
                }
                None => self.remove(&name, activity, now),
            }
        }
        let desired = &mut self.world.desired;
        desired.revision = change.revision;
        desired.unreadable.extend(change.unreadable);
        desired.unreadable_shards.extend(change.unreadable_shards);
        desired.unreadable_hosts.extend(change.unreadable_hosts);
        desired.unreadable_zones.extend(change.unreadable_zones);
        desired.unreadable_policies.extend(change.unreadable_policies);
        subjects.into_iter().for_each(|subject| self.agenda.touch(subject));
    }

    /// What an operator has asked for is no loss. Of a change that is all there is, nobody knows
    /// what was asked for.
    fn tell_gate(&mut self, change: &DesiredChange) {
        if change.whole {
            return;
        }
        let shards = change.shards.iter().map(|(n, s)| (Subject::Shard(n.clone()), s.is_none()));
        let apps = change.apps.iter().map(|(n, a)| (Subject::App(n.clone()), a.is_none()));
        let zones = change.zones.iter().map(|(n, z)| (Subject::Zone(n.clone()), z.is_none()));
        let policies = change.policies.iter();
        let policies = policies.map(|(n, p)| (Subject::Policy(n.clone()), p.is_none()));
        for (subject, is_deleted) in shards.chain(apps).chain(zones).chain(policies) {
            match is_deleted {
                true => self.gate.deleted(subject),
                false => self.gate.written(&subject),
            }
        }
    }

    /// Removes what is not in a change that is all there is.
    fn remove_others(&mut self, change: &DesiredChange, activity: &Activity, now: Moment) {
        let World { desired, observed, .. } = &self.world;
        // The observed ones too: the snapshot that was served last may hold one that was deleted
        // since.
        let known = desired.apps.keys().chain(observed.apps.keys());
        let kept: BTreeSet<_> = change.apps.iter().map(|(name, _)| name).collect();
        let gone: Vec<_> = known.filter(|name| !kept.contains(name)).cloned().collect();
        let kept: BTreeSet<_> = change.shards.iter().map(|(name, _)| name).collect();
        let known = desired.shards.keys();
        let gone_shards: Vec<_> = known.filter(|name| !kept.contains(name)).cloned().collect();
        let kept: BTreeSet<_> = change.hosts.iter().map(|(name, _)| name).collect();
        let known = desired.hosts.keys();
        let gone_hosts: Vec<_> = known.filter(|name| !kept.contains(name)).cloned().collect();
        let kept: BTreeSet<_> = change.zones.iter().map(|(name, _)| name).collect();
        let known = desired.zones.keys();
        let gone_zones: Vec<_> = known.filter(|name| !kept.contains(name)).cloned().collect();
        let kept: BTreeSet<_> = change.policies.iter().map(|(name, _)| name).collect();
        let known = desired.policies.keys();
        let gone_policies: Vec<_> = known.filter(|name| !kept.contains(name)).cloned().collect();
        for name in gone.iter().filter(|name| !change.unreadable.contains(*name)) {
            self.names_changed(name, None, false);
            self.remove(name, activity, now);
        }
        let World { desired, observed, .. } = &mut self.world;
        for name in gone_shards.iter().filter(|name| !change.unreadable_shards.contains(*name)) {
            desired.shards.remove(name);
            observed.shard_changed(name, &[], now);
        }
        for name in gone_hosts.iter().filter(|name| !change.unreadable_hosts.contains(*name)) {
            desired.hosts.remove(name);
            observed.host_changed(name, None, false, now);
        }
        for name in gone_zones.iter().filter(|name| !change.unreadable_zones.contains(*name)) {
            desired.zones.remove(name);
            self.agenda.touch_zones(observed.zones.zone_changed(name, None));
        }
        for name in gone_policies.iter().filter(|name| !change.unreadable_policies.contains(*name))
        {
            self.policy_changed(name, None, false);
        }
    }

    /// A region is where its hosts are.
    fn hosts_changed(&mut self, asked: bool) {
        let policies = self.world.desired.policies.clone();
        let with_regions = |policy: &&Arc<FailoverPolicy>| {
            policy.targets.iter().any(|target| target.region.is_some())
        };
        for policy in policies.values().filter(with_regions) {
            self.policy_changed(&policy.name, Some(policy.clone()), asked);
        }
    }

    /// Notes that the names of an app may be others now. What follows for zones is `asked` for if
    /// the change is.
    fn names_changed(&mut self, name: &AppName, latter: Option<&DesiredApp>, asked: bool) {
        let World { desired, observed, .. } = &mut self.world;
        let former = desired.apps.get(name).map(|former| &former.app);
        let zones = observed.zones.app_changed(former, latter.map(|latter| &latter.app));
        self.zones_follow(zones, asked);
    }

    /// Takes in a new or changed policy, or that it is gone.
    fn policy_changed(
        &mut self,
        name: &FailoverName,
        latter: Option<Arc<FailoverPolicy>>,
        asked: bool,
    ) {
        let World { desired, observed, .. } = &mut self.world;
        let hosts: Vec<_> = desired.hosts.values().map(AsRef::as_ref).collect();
        let latter = latter.map(|policy| Arc::new(policy.located(&hosts)));
        let former = match latter.clone() {
            Some(policy) => desired.policies.insert(name.clone(), policy),
            None => desired.policies.remove(name),
        };
        if latter.is_none() {
            observed.policies.remove(name);
        }
        self.agenda.touch(Subject::Policy(name.clone()));
        users(desired, name).for_each(|app| self.agenda.touch_app(app));
        let names = |policy: &Option<Arc<FailoverPolicy>>| {
            policy.as_ref().map_or_else(Vec::new, |policy| policy.hostnames.clone())
        };
        let zones = observed.zones.policy_changed(name, &names(&former), &names(&latter));
        self.zones_follow(zones, asked);
    }

    /// Takes in what the law has come to. What its names lead to then is no loss that nobody asked
    /// for.
    fn steered(&mut self, name: FailoverName, seen: Arc<PolicySeen>) {
        let World { desired, observed, .. } = &mut self.world;
        // Of one that has been deleted meanwhile, nothing is kept for another of its name.
        let Some(policy) = desired.policies.get(&name) else { return };
        if observed.served.policy(&name).is_none() {
            users(desired, &name).for_each(|app| self.agenda.touch_app(app));
        }
        let zones = observed.zones.steered_anew(&policy.hostnames);
        self.agenda.touch(Subject::Policy(name.clone()));
        observed.policies.insert(name, seen);
        self.zones_follow(zones, true);
    }

    /// Has zones looked at that something else has changed.
    fn zones_follow(&mut self, zones: BTreeSet<ZoneName>, asked: bool) {
        for zone in zones {
            let subject = Subject::Zone(zone);
            if asked {
                self.gate.written(&subject);
            }
            self.agenda.touch(subject);
        }
    }

    fn remove(&mut self, app: &AppName, activity: &Activity, now: Moment) {
        let World { desired, observed, .. } = &mut self.world;
        desired.apps.remove(app);
        observed.app_removed(app, now);
        activity.remove_app(app);
    }
}
