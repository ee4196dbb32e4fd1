//! The next step of each instance: make, start, put to sleep, wake, stop or remove it.

use std::time::Duration;

use weir_config::{Deployment, DesiredApp, InstanceId, Moment, Rollout, SleepLevel};
use weir_deploy::{ContainerSpec, ContainerState};

use super::{Planned, cast::Cast, sleep::Target};
use crate::{
    action::{Action, StopReason},
    failure::Failure,
    health::Health,
    instance::Instance,
    observed::Observed,
    served::serves,
};

/// While requests end on an instance that leaves, this often is often enough to look.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// The next step of an instance that serves for a deployment which was never live.
pub(super) fn plan_stand_in(id: &InstanceId, instance: &Instance, now: Moment, plan: &mut Planned) {
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
pub(super) fn plan_wanted(
    cast: &Cast<'_>,
    deployment: &Deployment,
    id: &InstanceId,
    instance: &Instance,
    target: Target,
    plan: &mut Planned,
) {
    let Cast { observed, now, .. } = *cast;
    if instance.doing.is_some() {
        return;
    }
    let backing_off = instance.is_backing_off(now);
    if let Some(at) = instance.waits_until(now) {
        plan.wake_at(at);
    }
    let (rollout, template) = (&cast.app.app.rollout, &deployment.template);
    let start = || Action::Start(id.clone());
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
            let restarts = template.restart.restarts(code);
            // A wake starts whatever has ended, and a roll-out what has not failed in it.
            let wanted = observed.apps.get(&id.app).is_some_and(|state| state.wake_wanted)
                || (deployment.state.is_under_way() && instance.failure.is_none());
            (instance.stopped_by_us || restarts || wanted).then(start)
        }
        (Some(ContainerState::Created), Target::Awake) => Some(start()),
        (Some(ContainerState::Dead), _) => {
            Some(Action::Remove { instance: id.clone(), grace: rollout.stop_grace })
        }
        (None, Target::Awake) => {
            let (instance, template) = (id.clone(), template.clone());
            Some(Action::Create(ContainerSpec { instance, template }))
        }
        (Some(ContainerState::Restarting), _) | (_, Target::Asleep(_)) => None,
    };
    let is_start = matches!(action, Some(Action::Start(_)));
    let is_blocked = is_start && cast.is_blocked(id, template);
    plan.actions.extend(action.filter(|_| !is_blocked));
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

/// The next step of an instance that makes way but may be wanted again: it is frozen or, if its
/// container cannot be there beside the target's, ended, once no request is on it.
pub(super) fn park(cast: &Cast<'_>, id: &InstanceId, instance: &Instance, plan: &mut Planned) {
    use ContainerState::{Created, Dead, Exited, Paused, Restarting, Running};
    let rollout = &cast.app.app.rollout;
    if instance.doing.is_some() {
        return;
    }
    if let Some(at) = instance.waits_until(cast.now) {
        return plan.wake_at(at);
    }
    if thaws(id, instance, plan) {
        return;
    }
    let makes_room = cast.is_in_the_way(id);
    let stop = Action::Stop {
        instance: id.clone(),
        grace: rollout.stop_grace,
        why: StopReason::MakesRoom,
    };
    let action = match instance.state() {
        Some(Running) if !is_gone_from(cast, id, instance, plan) => None,
        // One whose time to drain is over is not frozen under its requests.
        Some(Running) if makes_room || instance.in_flight > 0 => Some(stop),
        Some(Running) => Some(Action::Pause(id.clone())),
        Some(Paused) if makes_room => Some(stop),
        Some(Restarting) => Some(stop),
        Some(Created | Dead) => {
            Some(Action::Remove { instance: id.clone(), grace: rollout.stop_grace })
        }
        Some(Paused | Exited { .. }) | None => None,
    };
    plan.actions.extend(action);
}

/// Whether an instance takes no requests and none is left on it, or its time to drain is over.
pub(super) fn is_gone_from(
    cast: &Cast<'_>,
    id: &InstanceId,
    instance: &Instance,
    plan: &mut Planned,
) -> bool {
    let Cast { app, observed, now, .. } = *cast;
    !serves(&observed.served, &id.clone().into()) && !drains(instance, &app.app.rollout, now, plan)
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
    if thaws(id, instance, plan) || drains(instance, rollout, now, plan) {
        return;
    }
    plan.actions.push(Action::Remove { instance: id.clone(), grace: rollout.stop_grace });
}

/// Has one that was frozen go on if requests are on it: after a crash the last snapshot on disk may
/// still send them there, and they would wait until it is removed.
fn thaws(id: &InstanceId, instance: &Instance, plan: &mut Planned) -> bool {
    let is_stuck = instance.state() == Some(ContainerState::Paused) && instance.in_flight > 0;
    plan.actions.extend(is_stuck.then(|| Action::Unpause(id.clone())));
    is_stuck
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
