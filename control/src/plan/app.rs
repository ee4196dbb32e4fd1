//! One app of an image: which of its instances to make, start, put to sleep, wake, stop and remove.

use std::time::Duration;

use weir_config::{
    Activity, AppRoute, Deployment, DesiredApp, InstanceId, Moment, Rollout, SleepLevel,
};
use weir_deploy::{ContainerSpec, ContainerState};

use super::{
    Planned,
    placement::{Placed, Places},
    route, sleep,
    sleep::Target,
};
use crate::{
    action::{Action, StopReason},
    failure::Failure,
    health::Health,
    host::HostState,
    instance::Instance,
    observed::Observed,
    served::serves,
};

/// While requests end on an instance that leaves, this often is often enough to look.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// The instances of one app, as they stand to its deployment.
pub(super) struct Cast<'a> {
    pub(super) app: &'a DesiredApp,
    pub(super) deployment: &'a Deployment,
    /// The ones that should be, in order.
    pub(super) current: Vec<(InstanceId, &'a Instance)>,
    /// Copies of current ones on other hosts, which take their place as soon as they are ready.
    pub(super) coming: Vec<(InstanceId, &'a Instance)>,
    /// Why some that should be are nowhere, if so they are.
    pub(super) unplaced: Option<String>,
    /// The ones of former deployments, those that are one too many, and those that have moved.
    pub(super) former: Vec<(&'a InstanceId, &'a Instance)>,
}

impl<'a> Cast<'a> {
    fn of(app: &'a DesiredApp, deployment: &'a Deployment, places: &Places<'a>) -> Self {
        let observed = places.observed;
        let Placed { instances, coming, unplaced } = places.place(app, deployment);
        let (current, coming) = (observed.known(instances), observed.known(coming));
        let wanted = current.iter().chain(&coming).map(|(id, _)| id);
        let former = observed
            .instances_of(&app.app.name)
            .filter(|(id, _)| !wanted.clone().any(|wanted| wanted == *id))
            .collect();
        Self { app, deployment, current, coming, unplaced, former }
    }

    /// Whether something holds of every instance that should be; one that is nowhere is nothing.
    fn all_current(&self, holds: impl Fn(&Instance) -> bool) -> bool {
        self.unplaced.is_none() && self.current.iter().all(|(_, instance)| holds(instance))
    }

    /// Whether each instance that should be has been started, or failed to be.
    fn was_started(&self) -> bool {
        let was_started = |instance: &Instance| {
            let state = instance.state();
            instance.failure.is_some() || state.is_some_and(|s| s != ContainerState::Created)
        };
        self.all_current(was_started)
    }

    /// Whether the current deployment can take all traffic.
    pub(super) fn is_ready(&self) -> bool {
        self.all_current(Instance::is_ready)
    }

    /// Whether the current deployment sleeps, so that it has been ready and will be again.
    fn is_asleep(&self) -> bool {
        self.all_current(|instance| instance.sleeps().is_some())
    }

    /// Whether the former ones must go before the new ones start: a published port can be held by
    /// one running container of a host at a time.
    fn takes_turns(&self) -> bool {
        let shares_host = |(former, _): &(&InstanceId, _)| {
            self.current.iter().any(|(current, _)| current.host == former.host)
        };
        !self.deployment.template.ports.is_empty() && self.former.iter().any(shares_host)
    }

    /// Whether it is their time to go: the new ones are made, so their image is known to be there.
    pub(super) fn makes_room(&self) -> bool {
        let is_made = |(_, instance): &(_, &Instance)| instance.container.is_some();
        self.takes_turns() && self.current.iter().all(is_made)
    }

    /// The former deployment that serves for as long as the new one is not ready: the latest that
    /// is ready itself, or else that has ever been.
    fn fallback(&self) -> Option<u64> {
        let proven = self.former.iter().filter(|(_, instance)| instance.proven);
        let candidates = proven.map(|(id, instance)| (instance.is_ready(), id.deployment));
        let candidates = candidates.filter(|(_, number)| *number < self.deployment.number);
        candidates.max().map(|(_, number)| number)
    }

    /// Those that serve while the new deployment is not ready; the other former ones can go.
    pub(super) fn stand_ins(&self) -> impl Iterator<Item = (&'a InstanceId, &'a Instance)> {
        let (fallback, number) = (self.fallback(), self.deployment.number);
        self.former.iter().copied().filter(move |(id, instance)| {
            instance.proven && (Some(id.deployment) == fallback || id.deployment == number)
        })
    }

    /// Since when every instance has been ready with nothing under way, if so it is.
    fn at_ease_since(&self, observed: &Observed) -> Option<Moment> {
        let ready_since = |instance: &Instance| {
            let is_at_ease = instance.is_ready() && instance.doing.is_none();
            instance.health.ready_since().filter(|_| is_at_ease)
        };
        let since: Option<Vec<_>> =
            self.current.iter().map(|(_, instance)| ready_since(instance)).collect();
        // One on a lost host may never come back.
        let is_lost = |(id, _): &(&InstanceId, _)| observed.host(&id.host).state == HostState::Lost;
        let is_settled =
            self.former.iter().all(is_lost) && self.coming.is_empty() && self.unplaced.is_none();
        since.filter(|_| is_settled)?.into_iter().max()
    }
}

/// Plans one app: adds its actions, probes and next deadline to `plan`, and returns its route.
pub(super) fn plan_app(
    app: &DesiredApp,
    deployment: &Deployment,
    places: &Places<'_>,
    activity: &Activity,
    now: Moment,
    plan: &mut Planned,
) -> AppRoute {
    let observed = places.observed;
    let cast = Cast::of(app, deployment, places);
    let mut state = observed.apps.get(&app.app.name).cloned().unwrap_or_default();
    // A former deployment slept, perhaps before a restart: a new one is verified awake.
    state.asleep = state.asleep.filter(|_| cast.was_started());
    let (target, until) =
        sleep::target(app.app.sleep.as_ref(), &state, cast.at_ease_since(observed), now);
    if let Some(at) = until {
        plan.wake_at(at);
    }
    if let Target::Asleep(level) = target
        && state.asleep != Some(level)
    {
        plan.asleep = Some(level);
    }
    let takes_turns = cast.takes_turns();
    for (id, instance) in &cast.current {
        plan.probe(id, instance, &app.app.health);
        if !(takes_turns && instance.container.is_some()) {
            plan_current(&cast, id, instance, target, observed, now, plan);
        }
    }
    for (id, instance) in &cast.coming {
        plan.probe(id, instance, &app.app.health);
        // Whether the app sleeps or not.
        plan_current(&cast, id, instance, Target::Awake, observed, now, plan);
    }
    let stand_ins: Vec<_> = cast.stand_ins().map(|(id, _)| id).collect();
    for (id, instance) in &cast.former {
        plan.probe(id, instance, &app.app.health);
        let sleeps = matches!(target, Target::Asleep(_)) && cast.is_asleep();
        let has_successor = cast.is_ready() || sleeps || cast.makes_room();
        if has_successor || !stand_ins.contains(id) {
            retire(id, instance, observed, &app.app.rollout, now, plan);
        } else if target == Target::Awake && instance.doing.is_none() {
            plan_stand_in(id, instance, now, plan);
        }
    }
    let is_made = |(_, instance): &(_, &Instance)| instance.container.is_some();
    plan.converged = state.converging
        && cast.former.is_empty()
        && cast.coming.is_empty()
        && cast.current.iter().all(is_made);
    route::route(&cast, target, observed, activity, now)
}

/// The next step of a former instance that serves while the new deployment is not ready.
fn plan_stand_in(id: &InstanceId, instance: &Instance, now: Moment, plan: &mut Planned) {
    match instance.state() {
        Some(ContainerState::Paused) => plan.actions.push(Action::Unpause(id.clone())),
        Some(ContainerState::Exited { .. }) => match instance.waits_until(now) {
            Some(at) => plan.wake_at(at),
            None => plan.actions.push(Action::Start(id.clone())),
        },
        _ => {}
    }
}

/// The next step of an instance that should be.
fn plan_current(
    cast: &Cast<'_>,
    id: &InstanceId,
    instance: &Instance,
    target: Target,
    observed: &Observed,
    now: Moment,
    plan: &mut Planned,
) {
    if instance.doing.is_some() {
        return;
    }
    let backing_off = instance.is_backing_off(now);
    if let Some(at) = instance.waits_until(now) {
        plan.wake_at(at);
    }
    let rollout = &cast.app.app.rollout;
    let stop = |why| Action::Stop { instance: id.clone(), grace: rollout.stop_grace, why };
    let action = match (instance.state(), target) {
        (Some(ContainerState::Running), Target::Asleep(level)) => {
            // Only when the data plane holds new requests and none that it let through is left.
            let held_off = !serves(&observed.served, &id.clone().into()) && instance.in_flight == 0;
            match level {
                _ if !held_off => {
                    plan.wake_at(now + DRAIN_POLL);
                    None
                }
                SleepLevel::Paused => Some(Action::Pause(id.clone())),
                SleepLevel::Stopped => Some(stop(StopReason::Sleep)),
            }
        }
        (Some(ContainerState::Paused), Target::Asleep(SleepLevel::Stopped)) => {
            Some(stop(StopReason::Sleep))
        }
        // A crash loop is ended; a failed one is not tried before its time.
        (Some(ContainerState::Running | ContainerState::Restarting), _) if backing_off => {
            (!instance.is_ready()).then(|| stop(StopReason::CrashLoop))
        }
        _ if backing_off => None,
        (Some(ContainerState::Running), Target::Awake) => {
            overdue(cast.app, instance, now, plan).map(|failure| stop(StopReason::Failed(failure)))
        }
        (Some(ContainerState::Paused), Target::Awake) => Some(Action::Unpause(id.clone())),
        (Some(ContainerState::Exited { code, .. }), Target::Awake) => {
            let restarts = cast.deployment.template.restart.restarts(code);
            // A wake starts whatever has ended.
            let wanted = observed.apps.get(&id.app).is_some_and(|state| state.wake_wanted);
            (instance.stopped_by_us || restarts || wanted).then(|| Action::Start(id.clone()))
        }
        (Some(ContainerState::Created), Target::Awake) => Some(Action::Start(id.clone())),
        (Some(ContainerState::Dead), _) => {
            Some(Action::Remove { instance: id.clone(), grace: rollout.stop_grace })
        }
        (None, Target::Awake) => {
            let template = cast.deployment.template.clone();
            Some(Action::Create(ContainerSpec { instance: id.clone(), template }))
        }
        (Some(ContainerState::Restarting), _) | (_, Target::Asleep(_)) => None,
    };
    plan.actions.extend(action);
}

/// Why a running instance has failed, if its time to be ready is over.
fn overdue(
    app: &DesiredApp,
    instance: &Instance,
    now: Moment,
    plan: &mut Planned,
) -> Option<Failure> {
    let (since, error) = match &instance.health {
        Health::Ready { .. } => return None,
        Health::Starting { since, error } => (*since, error.as_deref()),
        Health::Unhealthy { since, error } => (*since, Some(error.as_str())),
    };
    let deadline = app.app.rollout.deadline;
    if now < since + deadline {
        plan.wake_at(since + deadline);
        return None;
    }
    if drains(instance, &app.app.rollout, now, plan) {
        return None;
    }
    Some(Failure::not_healthy(deadline, error))
}

/// Removes an instance once no request is sent to it and none is left on it, or its time to drain
/// is over.
pub(super) fn retire(
    id: &InstanceId,
    instance: &Instance,
    observed: &Observed,
    rollout: &Rollout,
    now: Moment,
    plan: &mut Planned,
) {
    if instance.doing.is_some() || serves(&observed.served, &id.clone().into()) {
        return;
    }
    // The engine refused to remove it a moment ago.
    if let Some(at) = instance.waits_until(now) {
        return plan.wake_at(at);
    }
    if drains(instance, rollout, now, plan) {
        return;
    }
    plan.actions.push(Action::Remove { instance: id.clone(), grace: rollout.stop_grace });
}

/// Whether requests are left on an instance that takes no new ones, and their time is not over.
fn drains(instance: &Instance, rollout: &Rollout, now: Moment, plan: &mut Planned) -> bool {
    let drained_at = instance.left_at.unwrap_or(now) + rollout.drain;
    let drains = instance.in_flight > 0 && now < drained_at;
    if drains {
        plan.wake_at(drained_at.min(now + DRAIN_POLL));
    }
    drains
}
