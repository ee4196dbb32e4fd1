//! The instances of one app, by what they are to it.

use weir_config::{
    Contention, Deployment, DeploymentState, DesiredApp, InstanceId, Moment, Template,
};
use weir_deploy::ContainerState;

use crate::{action::Action, instance::Instance, observed::Observed};

pub(super) struct Cast<'a> {
    pub(super) app: &'a DesiredApp,
    pub(super) observed: &'a Observed,
    pub(super) now: Moment,
    /// The deployment that is brought up, or kept up; `None` if all were called off.
    pub(super) target: Option<&'a Deployment>,
    /// Its instances, in order.
    pub(super) current: Vec<(InstanceId, &'a Instance)>,
    /// The live deployment, while the target is another one.
    pub(super) live: Option<&'a Deployment>,
    /// The instances that serve while the target does not: of the live deployment; without one, of
    /// the latest that has ever been ready.
    pub(super) former: Vec<(InstanceId, &'a Instance)>,
    /// All others: kept for a rollback, or on their way out.
    pub(super) others: Vec<(&'a InstanceId, &'a Instance)>,
}

impl<'a> Cast<'a> {
    pub(super) fn of(app: &'a DesiredApp, observed: &'a Observed, now: Moment) -> Self {
        let target = app.target();
        let current = observed.current(app);
        let live = app.live().filter(|live| target.is_some_and(|t| t.number != live.number));
        let there = || observed.instances_of(&app.app.name);
        let number = target.map_or(0, |target| target.number);
        let stands_in = |(id, instance): &(&InstanceId, &Instance)| {
            instance.proven && id.deployment < number && !is_kept(app, id.deployment, now)
        };
        let former = match live {
            Some(live) => observed.wanted(app, live.number),
            None => {
                let latest = there().filter(stands_in).map(|(id, _)| id.deployment).max();
                let is_latest = |(id, _): &(&InstanceId, _)| Some(id.deployment) == latest;
                there().filter(is_latest).map(|(id, instance)| (id.clone(), instance)).collect()
            }
        };
        let has_role = |wanted: &InstanceId| {
            current.iter().chain(&former).any(|(id, _): &(InstanceId, _)| id == wanted)
        };
        let others = there().filter(|(id, _)| !has_role(id)).collect();
        Self { app, observed, now, target, current, live, former, others }
    }

    /// Whether the target can take all traffic.
    pub(super) fn is_ready(&self) -> bool {
        self.target.is_some() && self.current.iter().all(|(_, instance)| instance.is_ready())
    }

    /// The target, while it is on its way.
    pub(super) fn under_way(&self) -> Option<&'a Deployment> {
        self.target.filter(|target| target.state.is_under_way())
    }

    /// Why the former instances must stop before the target's start, if they must.
    pub(super) fn contention(&self) -> Option<Contention> {
        let target = self.target?;
        match self.live {
            Some(live) => target.template.contends_with(&live.template),
            // Of what, is not known any more.
            None if self.former.is_empty() => None,
            None => target.template.ports.first().map(|port| Contention::Port(port.host)),
        }
    }

    /// Whether it is their time to go: the target's are made, so its image is known to be there.
    pub(super) fn makes_room(&self) -> bool {
        let is_made = |(_, instance): &(_, &Instance)| instance.container.is_some();
        self.contention().is_some() && self.current.iter().all(is_made)
    }

    /// Whether an instance that is no part of `deployment` has what its containers need to run.
    pub(super) fn is_blocked(&self, deployment: u64, template: &Template) -> bool {
        let holds = |(id, instance): (&InstanceId, &Instance)| {
            use ContainerState::{Paused, Restarting, Running};
            let is_up = matches!(instance.state(), Some(Running | Paused | Restarting))
                || matches!(instance.doing, Some(Action::Start(_)));
            is_up && id.deployment != deployment && self.contends(id, template)
        };
        let known = self.current.iter().chain(&self.former).map(|(id, instance)| (id, *instance));
        known.chain(self.others.iter().copied()).any(holds)
    }

    /// Whether an instance's container cannot run beside one of this template.
    pub(super) fn contends(&self, id: &InstanceId, template: &Template) -> bool {
        match self.app.deployment(id.deployment) {
            Some(deployment) => deployment.template.contends_with(template).is_some(),
            None => !template.ports.is_empty(),
        }
    }

    /// Whether a deployment that is not live has its instances kept for a rollback.
    pub(super) fn is_kept(&self, deployment: u64) -> bool {
        is_kept(self.app, deployment, self.now)
    }

    /// Since when every instance has been ready with nothing under way, if so it is.
    pub(super) fn at_ease_since(&self) -> Option<Moment> {
        let is_settled = self.under_way().is_none()
            && self.target.is_some()
            && self.former.is_empty()
            && self.others.iter().all(|(id, _)| self.is_kept(id.deployment));
        let ready_since = |instance: &Instance| {
            let is_at_ease = instance.is_ready() && instance.doing.is_none();
            instance.health.ready_since().filter(|_| is_at_ease)
        };
        let since: Option<Vec<_>> =
            self.current.iter().map(|(_, instance)| ready_since(instance)).collect();
        since.filter(|_| is_settled)?.into_iter().max()
    }
}

fn is_kept(app: &DesiredApp, deployment: u64, now: Moment) -> bool {
    app.deployment(deployment).is_some_and(|deployment| {
        deployment.state > DeploymentState::Live
            && deployment.kept_until.is_some_and(|until| now < until)
    })
}
