//! One app: which of its instances to make, start, put to sleep, wake, stop and remove.

use std::time::Duration;

use weir_config::{
    Activity, AppRoute, DesiredApp, InstanceId, Moment, RestartPolicy, Rollout, SleepLevel,
};
use weir_deploy::{ContainerSpec, ContainerState};

use super::{Plan, route, sleep, sleep::Target};
use crate::{
    action::{Action, StopReason},
    failure::Failure,
    observed::{Health, Instance, Observed, serves},
};

/// While requests end on an instance that leaves, this often is often enough to look.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// The instances of one app, as they stand to its deployment.
pub(super) struct Cast<'a> {
    /// The ones that should be, in order; one that nothing is known of yet has its default.
    pub(super) current: Vec<(InstanceId, Instance)>,
    /// The ones of former deployments and those that are one too many.
    pub(super) former: Vec<(&'a InstanceId, &'a Instance)>,
}

impl<'a> Cast<'a> {
    fn of(app: &DesiredApp, observed: &'a Observed) -> Self {
        let id = |ordinal| InstanceId {
            app: app.app.name.clone(),
            deployment: app.deployment.number,
            ordinal,
        };
        let current: Vec<_> = (0..app.app.instances)
            .map(|ordinal| {
                let id = id(ordinal);
                let instance = observed.instances.get(&id).cloned().unwrap_or_default();
                (id, instance)
            })
            .collect();
        let first = InstanceId { app: app.app.name.clone(), deployment: 0, ordinal: 0 };
        let former = observed
            .instances
            .range(first..)
            .take_while(|(id, _)| id.app == app.app.name)
            .filter(|(id, _)| current.iter().all(|(current, _)| current != *id))
            .collect();
        Self { current, former }
    }

    /// Whether the current deployment can take all traffic.
    pub(super) fn is_ready(&self) -> bool {
        self.current.iter().all(|(_, instance)| instance.is_ready())
    }

    /// Whether the former ones must go first: a published port can be held by one container at a
    /// time.
    pub(super) fn makes_room(&self, app: &DesiredApp) -> bool {
        !app.deployment.template.ports.is_empty() && !self.former.is_empty()
    }

    /// Since when every instance has been ready with nothing under way, if so it is.
    fn at_ease_since(&self) -> Option<Moment> {
        let ready_since = |instance: &Instance| match instance.health {
            Health::Ready { since } if instance.is_ready() && instance.doing.is_none() => {
                Some(since)
            }
            _ => None,
        };
        let since: Option<Vec<_>> =
            self.current.iter().map(|(_, instance)| ready_since(instance)).collect();
        since.filter(|_| self.former.is_empty())?.into_iter().max()
    }
}

/// Plans one app: adds its actions, probes and next deadline to `plan`, and returns its route.
pub(super) fn plan_app(
    app: &DesiredApp,
    observed: &Observed,
    activity: &Activity,
    now: Moment,
    plan: &mut Plan,
) -> AppRoute {
    let cast = Cast::of(app, observed);
    let state = observed.apps.get(&app.app.name).cloned().unwrap_or_default();
    let (target, until) = sleep::target(app.app.sleep.as_ref(), &state, cast.at_ease_since(), now);
    if let Some(at) = until {
        plan.wake_at(at);
    }
    if let Target::Asleep(level) = target
        && state.asleep != Some(level)
    {
        plan.asleep.push((app.app.name.clone(), level));
    }
    let makes_room = cast.makes_room(app);
    for (id, instance) in &cast.current {
        plan.probe(id, instance, &app.app.health);
        if !(makes_room && instance.container.is_none()) {
            plan_current(app, id, instance, target, observed, now, plan);
        }
    }
    for (id, instance) in &cast.former {
        plan.probe(id, instance, &app.app.health);
        let of_use = instance.is_ready()
            || instance.state() == Some(ContainerState::Paused)
            || matches!(instance.state(), Some(ContainerState::Exited { .. }))
                && instance.stopped_by_us
                && instance.failure.is_none();
        if cast.is_ready() || makes_room || !of_use {
            retire(id, instance, observed, &app.app.rollout, now, plan);
        } else if instance.doing.is_none() && target == Target::Awake {
            // The new deployment is not ready, so the former one serves for as long as it takes.
            match instance.state() {
                Some(ContainerState::Paused) => plan.actions.push(Action::Unpause((*id).clone())),
                Some(ContainerState::Exited { .. }) => {
                    plan.actions.push(Action::Start((*id).clone()));
                }
                _ => {}
            }
        }
    }
    route::route(app, &cast, target, observed, activity, now)
}

/// The next step of an instance that should be.
fn plan_current(
    app: &DesiredApp,
    id: &InstanceId,
    instance: &Instance,
    target: Target,
    observed: &Observed,
    now: Moment,
    plan: &mut Plan,
) {
    if instance.doing.is_some() {
        return;
    }
    let backing_off = instance.is_backing_off(now);
    if let Some(at) = instance.retry_at.filter(|_| backing_off) {
        plan.wake_at(at);
    }
    let rollout = &app.app.rollout;
    let stop = |why| Action::Stop { instance: id.clone(), grace: rollout.stop_grace, why };
    let action = match (instance.state(), target) {
        (Some(ContainerState::Running), Target::Asleep(level)) => {
            // Only when the data plane holds new requests and none that it let through is left.
            let held_off = !serves(&observed.served, id) && instance.in_flight == 0;
            match level {
                _ if !held_off => None,
                SleepLevel::Paused => Some(Action::Pause(id.clone())),
                SleepLevel::Stopped => Some(stop(StopReason::Sleep)),
            }
        }
        (Some(ContainerState::Paused), Target::Asleep(SleepLevel::Stopped)) => {
            Some(stop(StopReason::Sleep))
        }
        // A crash loop is ended whatever the target; a failed one is not tried before its time.
        (Some(ContainerState::Running | ContainerState::Restarting), _) if backing_off => {
            (!instance.is_ready()).then(|| stop(StopReason::CrashLoop))
        }
        _ if backing_off => None,
        (Some(ContainerState::Running), Target::Awake) => {
            overdue(app, instance, now, plan).map(|failure| stop(StopReason::Failed(failure)))
        }
        (Some(ContainerState::Paused), Target::Awake) => Some(Action::Unpause(id.clone())),
        (Some(ContainerState::Exited { code, .. }), Target::Awake) => {
            let restarts = match app.deployment.template.restart {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => code != 0,
                RestartPolicy::Never => false,
            };
            (instance.stopped_by_us || restarts).then(|| Action::Start(id.clone()))
        }
        (Some(ContainerState::Created), Target::Awake) => Some(Action::Start(id.clone())),
        (Some(ContainerState::Dead), _) => {
            Some(Action::Remove { instance: id.clone(), grace: rollout.stop_grace })
        }
        (None, Target::Awake) => {
            let template = app.deployment.template.clone();
            Some(Action::Create(ContainerSpec { instance: id.clone(), template }))
        }
        (Some(ContainerState::Restarting), _) | (_, Target::Asleep(_)) => None,
    };
    plan.actions.extend(action);
}

/// Why a running instance has failed, if its time to be ready is over.
fn overdue(app: &DesiredApp, instance: &Instance, now: Moment, plan: &mut Plan) -> Option<Failure> {
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
    plan: &mut Plan,
) {
    if instance.doing.is_some() || serves(&observed.served, id) {
        return;
    }
    // The engine refused to remove it a moment ago.
    if let Some(at) = instance.retry_at.filter(|at| now < *at) {
        return plan.wake_at(at);
    }
    let drained_at = instance.left_at.unwrap_or(now) + rollout.drain;
    if instance.in_flight > 0 && now < drained_at {
        return plan.wake_at(drained_at.min(now + DRAIN_POLL));
    }
    plan.actions.push(Action::Remove { instance: id.clone(), grace: rollout.stop_grace });
}
