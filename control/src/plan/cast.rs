//! The instances of one app, by what they are to it.

use weir_config::{
    Contention, Deployment, DeploymentState, Desired, DesiredApp, HostName, InstanceId, Moment,
    Template,
};
use weir_deploy::ContainerState;

use super::placement::{Placed, Places};
use crate::{action::Action, host::HostState, instance::Instance, observed::Observed};

pub(super) struct Cast<'a> {
    pub(super) app: &'a DesiredApp,
    desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) now: Moment,
    /// The deployment that is brought up, or kept up; `None` if all were called off.
    pub(super) target: Option<&'a Deployment>,
    /// Its instances, in order.
    pub(super) current: Vec<(InstanceId, &'a Instance)>,
    /// Copies of them on other hosts, which take their place as soon as they are ready.
    pub(super) coming: Vec<(InstanceId, &'a Instance)>,
    /// Why some of them are nowhere, if so they are.
    pub(super) unplaced: Option<String>,
    /// The live deployment, while the target is another one.
    pub(super) live: Option<&'a Deployment>,
    /// The instances that serve while the target does not: of the live deployment; without one, of
    /// the latest that is ready, or else that has ever been.
    pub(super) former: Vec<(InstanceId, &'a Instance)>,
    /// All others: kept for a rollback, moved to another host, or on their way out.
    pub(super) others: Vec<(&'a InstanceId, &'a Instance)>,
}

impl<'a> Cast<'a> {
    pub(super) fn of(app: &'a DesiredApp, places: &Places<'a>, now: Moment) -> Self {
        let Places { desired, observed, .. } = *places;
        let target = app.target();
        let live = app.live().filter(|live| target.is_some_and(|t| t.number != live.number));
        let there = || observed.instances_of(&app.app.name);
        let former = match live {
            Some(live) => observed.known(places.place(app, live).instances),
            None => {
                let number = target.map_or(0, |target| target.number);
                let stands_in = |(id, instance): &(&InstanceId, &Instance)| {
                    instance.proven && id.deployment < number && !is_kept(app, id.deployment, now)
                };
                let rank =
                    |(id, instance): (&InstanceId, &Instance)| (instance.is_ready(), id.deployment);
                let best = there().filter(stands_in).map(rank).max().map(|(_, number)| number);
                let of_best =
                    there().filter(|(id, i)| Some(id.deployment) == best && stands_in(&(id, i)));
                of_best.map(|(id, instance)| (id.clone(), instance)).collect()
            }
        };
        // Last, so that what is placed counts for other apps.
        let placed = target.map(|target| places.place(app, target));
        let Placed { instances, coming, unplaced } = placed.unwrap_or_default();
        let (current, coming) = (observed.known(instances), observed.known(coming));
        let has_role = |wanted: &InstanceId| {
            current.iter().chain(&coming).chain(&former).any(|(id, _)| id == wanted)
        };
        let others = there().filter(|(id, _)| !has_role(id)).collect();
        Self {
            app,
            desired,
            observed,
            now,
            target,
            current,
            coming,
            unplaced,
            live,
            former,
            others,
        }
    }

    /// Whether something holds of every instance of the target; one that is nowhere is nothing.
    pub(super) fn all_current(&self, holds: impl Fn(&Instance) -> bool) -> bool {
        self.target.is_some()
            && self.unplaced.is_none()
            && self.current.iter().all(|(_, instance)| holds(instance))
    }

    /// Whether the target can take all traffic.
    pub(super) fn is_ready(&self) -> bool {
        self.all_current(Instance::is_ready)
    }

    /// Whether the target sleeps, so that it has been ready and will be again.
    pub(super) fn is_asleep(&self) -> bool {
        self.all_current(|instance| instance.sleeps().is_some())
    }

    /// Whether each instance of the target has been started, or failed to be.
    pub(super) fn was_started(&self) -> bool {
        self.all_current(|instance| {
            let state = instance.state();
            instance.failure.is_some() || state.is_some_and(|s| s != ContainerState::Created)
        })
    }

    /// The target, while it is on its way.
    pub(super) fn under_way(&self) -> Option<&'a Deployment> {
        self.target.filter(|target| target.state.is_under_way())
    }

    /// Why the former instances must stop before the target's start, if they must.
    pub(super) fn contention(&self) -> Option<Contention> {
        let target = self.target?;
        let is_near = |(id, _): &(InstanceId, _)| self.has_current_on(&id.host);
        if !self.former.iter().any(is_near) {
            return None;
        }
        match self.live {
            Some(live) => target.template.contends_with(&live.template),
            // Of what, is not known any more.
            None => target.template.ports.first().map(|port| Contention::Port(port.host)),
        }
    }

    /// Whether it is their time to go: the target's are made, so its image is known to be there.
    pub(super) fn makes_room(&self) -> bool {
        let is_made = |(_, instance): &(_, &Instance)| instance.container.is_some();
        self.contention().is_some() && self.current.iter().all(is_made)
    }

    /// Whether an instance of another deployment has what this one of `deployment` needs to run.
    pub(super) fn is_blocked(&self, instance: &InstanceId, template: &Template) -> bool {
        let holds = |(id, seen): (&InstanceId, &Instance)| {
            use ContainerState::{Paused, Restarting, Running};
            let is_up = matches!(seen.state(), Some(Running | Paused | Restarting))
                || matches!(seen.doing, Some(Action::Start(_)));
            let is_another = id.deployment != instance.deployment && id.host == instance.host;
            is_up && is_another && self.contends(id, template)
        };
        let known = self.current.iter().chain(&self.former).map(|(id, seen)| (id, *seen));
        known.chain(self.others.iter().copied()).any(holds)
    }

    /// Whether an instance that makes way has what one of the target needs to run.
    pub(super) fn is_in_the_way(&self, id: &InstanceId) -> bool {
        let contends = |target: &Deployment| self.contends(id, &target.template);
        self.has_current_on(&id.host) && self.target.is_some_and(contends)
    }

    fn has_current_on(&self, host: &HostName) -> bool {
        self.current.iter().any(|(current, _)| current.host == *host)
    }

    fn contends(&self, id: &InstanceId, template: &Template) -> bool {
        match self.app.deployment(id.deployment) {
            Some(deployment) => deployment.template.contends_with(template).is_some(),
            None => !template.ports.is_empty(),
        }
    }

    /// Whether one that is not where it should be, or one too many, serves on until the others of
    /// its deployment do.
    pub(super) fn stands_in(&self, id: &InstanceId, instance: &Instance) -> bool {
        let (target, live) = (self.target.map(|t| t.number), self.live.map(|live| live.number));
        let former_is_ready = || self.former.iter().all(|(_, former)| former.is_ready());
        instance.proven
            && ((Some(id.deployment) == target && !self.is_ready())
                || (Some(id.deployment) == live && !former_is_ready()))
    }

    /// Whether a deployment that is not live has its instances kept for a rollback.
    pub(super) fn is_kept(&self, deployment: u64) -> bool {
        is_kept(self.app, deployment, self.now)
    }

    /// Whether an instance of such a deployment is kept. One that would have to move is not.
    pub(super) fn keeps(&self, id: &InstanceId) -> bool {
        let is_drained = self.desired.hosts.get(&id.host).is_some_and(|host| host.draining);
        self.is_kept(id.deployment) && !is_drained
    }

    /// Since when every instance has been ready with nothing under way, if so it is.
    pub(super) fn at_ease_since(&self) -> Option<Moment> {
        // One on a lost host may never come back.
        let is_lost = |id: &InstanceId| self.observed.host(&id.host).state == HostState::Lost;
        let is_settled = self.under_way().is_none()
            && self.target.is_some()
            && self.unplaced.is_none()
            && self.coming.is_empty()
            && self.former.iter().all(|(id, _)| is_lost(id))
            && self.others.iter().all(|(id, _)| self.keeps(id) || is_lost(id));
        let ready_since = |instance: &Instance| {
            let is_at_ease = instance.is_ready() && instance.doing.is_none();
            instance.health.ready_since().filter(|_| is_at_ease)
        };
        let since: Option<Vec<_>> =
            self.current.iter().map(|(_, instance)| ready_since(instance)).collect();
        since.filter(|_| is_settled)?.into_iter().max()
    }

    /// Whether there is all that should be and nothing else.
    pub(super) fn is_settled(&self) -> bool {
        let is_made = |(_, instance): &(_, &Instance)| instance.container.is_some();
        self.former.is_empty()
            && self.coming.is_empty()
            && self.others.iter().all(|(id, _)| self.keeps(id))
            && self.current.iter().all(is_made)
    }
}

fn is_kept(app: &DesiredApp, deployment: u64, now: Moment) -> bool {
    app.deployment(deployment).is_some_and(|deployment| {
        deployment.state > DeploymentState::Live
            && deployment.kept_until.is_some_and(|until| now < until)
    })
}
