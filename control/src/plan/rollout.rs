//! How a deployment gets from wanted to live: when it is further, how the requests go over, and
//! when it has failed.

use std::time::Duration;

use weir_config::{Answers, App, Cause, Deployment, DeploymentState, Ending, InstanceId, Strategy};
use weir_deploy::ContainerState;

use super::{Planned, PublicCheck, cast::Cast, instances::is_gone_from};
use crate::{
    failure::{Failure, FailureReason},
    instance::Instance,
    observed::AppState,
    served::serves,
    transition::{Stage, Transition, ending},
};

/// The route to a new deployment must answer within this.
const PUBLIC_CHECK: Duration = Duration::from_secs(10);
/// While answers are watched, they are looked at this often.
const WATCH: Duration = Duration::from_secs(1);
/// A registry may have been away for a moment; what it has not got, it will not have.
const IMAGE_TRIES: u32 = 2;
/// Fewer bad answers than this may be chance, unless fewer in a row eject an endpoint.
const FEWEST: u32 = 5;

/// Who answers the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Former,
    Current,
    /// The new instances up to this one, and the former ones after it.
    UpTo(u16),
    /// So many percent go to the new ones.
    Percent(u8),
}

impl Traffic {
    /// The weight of a new instance; 0 for no requests.
    pub(super) fn of_current(self, ordinal: u16) -> u16 {
        match self {
            Self::Former => 0,
            Self::Current => 1,
            Self::UpTo(last) => u16::from(ordinal <= last),
            Self::Percent(percent) => u16::from(percent),
        }
    }

    /// The weight of a former instance; 0 for no requests.
    pub(super) fn of_former(self, ordinal: u16) -> u16 {
        match self {
            Self::Former => 1,
            Self::Current => 0,
            Self::UpTo(last) => u16::from(ordinal > last),
            Self::Percent(percent) => 100 - u16::from(percent.min(100)),
        }
    }
}

/// What the deployment's strategy comes to here: without anything that serves meanwhile, or where
/// the instances cannot run side by side, there is one way only; and a rollback does not dawdle.
fn strategy(cast: &Cast<'_>, target: &Deployment) -> Strategy {
    let plain =
        cast.live.is_none() || cast.contention().is_some() || target.cause == Cause::Rollback;
    if plain { Strategy::BlueGreen } else { cast.app.app.rollout.strategy }
}

pub(super) fn traffic(cast: &Cast<'_>) -> Traffic {
    let Some(target) = cast.under_way() else {
        let waits = !cast.former.is_empty() && !cast.is_ready() && !cast.makes_room();
        return if waits { Traffic::Former } else { Traffic::Current };
    };
    match target.state {
        _ if cast.former.is_empty() || cast.makes_room() => Traffic::Current,
        // Nothing that was live: what is ready takes over at once.
        _ if cast.live.is_none() && cast.is_ready() => Traffic::Current,
        state if state < DeploymentState::Shifting => Traffic::Former,
        DeploymentState::Shifting => match strategy(cast, target) {
            Strategy::BlueGreen => Traffic::Current,
            Strategy::Rolling => Traffic::UpTo(target.step),
            Strategy::Canary => {
                let step = cast.app.app.rollout.steps.get(usize::from(target.step));
                step.map_or(Traffic::Current, |percent| Traffic::Percent(*percent))
            }
        },
        _ => Traffic::Current,
    }
}

/// How many of the target's instances should be there by now.
pub(super) fn wanted(cast: &Cast<'_>) -> u16 {
    let all = cast.app.app.instances;
    let Some(target) = cast.under_way() else { return all };
    match (strategy(cast, target), target.state) {
        (Strategy::Rolling, state) if state < DeploymentState::Shifting => all.min(1),
        (Strategy::Rolling, DeploymentState::Shifting) => all.min(target.step + 2),
        _ => all,
    }
}

/// Whether a former instance has to make way by now.
pub(super) fn leaves(cast: &Cast<'_>, ordinal: u16) -> bool {
    let is_draining =
        cast.under_way().is_some_and(|target| target.state == DeploymentState::Draining);
    match traffic(cast) {
        _ if is_draining || cast.makes_room() => true,
        Traffic::UpTo(last) => ordinal <= last,
        _ => false,
    }
}

/// What becomes of the app's deployments now, if anything does.
pub(super) fn next(cast: &Cast<'_>, state: &AppState, plan: &mut Planned) -> Option<Transition> {
    let target = cast.target?;
    if !target.state.is_under_way() {
        return bake(cast, target, state, plan);
    }
    let stage = Stage::of(target);
    if cast.live.is_some()
        && let Some(ending) = failed(cast, target, plan)
    {
        let was_seen = target.state >= DeploymentState::Shifting;
        let state = if was_seen { DeploymentState::RolledBack } else { DeploymentState::Failed };
        return Some(Transition::End { stage, state, ending });
    }
    let advance = |to, step| Some(Transition::Advance { stage, to, step });
    match target.state {
        DeploymentState::Shifting => shift(cast, target, state, plan),
        DeploymentState::Draining => {
            are_gone(cast, cast.former.iter(), plan).then(|| go_live(cast, stage))
        }
        state => {
            let reached = reached(cast);
            match reached {
                DeploymentState::Live => Some(go_live(cast, stage)),
                reached if reached > state => advance(reached, 0),
                _ => None,
            }
        }
    }
}

/// How far a deployment is that takes no requests yet.
fn reached(cast: &Cast<'_>) -> DeploymentState {
    let wanted = wanted(cast);
    let first = || cast.current.iter().filter(|(id, _)| id.ordinal < wanted);
    // One that is nowhere is nothing.
    let is_placed = first().count() == usize::from(wanted);
    let all =
        |is_so: fn(&Instance) -> bool| is_placed && first().all(|(_, instance)| is_so(instance));
    if all(Instance::is_ready) {
        // What served without being live makes way as it always does.
        return match cast.live {
            Some(_) => DeploymentState::Shifting,
            None => DeploymentState::Live,
        };
    }
    if all(|instance| instance.state() == Some(ContainerState::Running)) {
        DeploymentState::Verifying
    } else if all(|instance| instance.container.is_some()) {
        DeploymentState::Starting
    } else {
        DeploymentState::Preparing
    }
}

/// Whether none of these is in use any more. Each is asked, so that each is waited for.
fn are_gone<'a>(
    cast: &Cast<'_>,
    former: impl Iterator<Item = &'a (InstanceId, &'a Instance)>,
    plan: &mut Planned,
) -> bool {
    former.filter(|(id, instance)| !is_gone_from(cast, id, instance, plan)).count() == 0
}

fn go_live(cast: &Cast<'_>, stage: Stage) -> Transition {
    let rollout = &cast.app.app.rollout;
    // What bakes can be taken back, unless nothing is to be kept at all.
    let keep = match rollout.keep {
        keep if keep.is_zero() || !rollout.auto_rollback => keep,
        keep => keep.max(rollout.bake),
    };
    Transition::GoLive { stage, keep }
}

/// The next step of a deployment that requests go over to.
fn shift(
    cast: &Cast<'_>,
    target: &Deployment,
    state: &AppState,
    plan: &mut Planned,
) -> Option<Transition> {
    let stage = Stage::of(target);
    let rollout = &cast.app.app.rollout;
    let further =
        Transition::Advance { stage, to: DeploymentState::Shifting, step: target.step + 1 };
    match traffic(cast) {
        Traffic::UpTo(last) if last + 1 < cast.app.app.instances => {
            let leaving = cast.former.iter().filter(|(id, _)| id.ordinal <= last);
            let is_gone = are_gone(cast, leaving, plan);
            let is_next = |(id, instance): &(InstanceId, &Instance)| {
                id.ordinal == last + 1 && instance.is_ready()
            };
            let next_is_ready = cast.current.iter().any(is_next);
            return (is_gone && next_is_ready).then_some(further);
        }
        Traffic::Percent(_) => {
            if rollout.auto_rollback
                && let Some(ending) = breach(&cast.app.app, &state.answers)
            {
                let state = DeploymentState::RolledBack;
                return Some(Transition::End { stage, state, ending });
            }
            let over = target.since + rollout.step_for;
            if over <= cast.now {
                return Some(further);
            }
            plan.wake_at(over.min(cast.now + WATCH));
            return None;
        }
        _ => {}
    }
    let is_served = |(id, _): &(InstanceId, _)| serves(&cast.observed.served, &id.clone().into());
    let all_are_placed = cast.unplaced.is_none();
    if !all_are_placed || !cast.current.iter().all(is_served) || cast.former.iter().any(is_served) {
        return None;
    }
    public_check(cast, target, state, plan)
}

/// All requests go to the deployment: one through the public route shows that they arrive. The
/// former instances still run meanwhile.
fn public_check(
    cast: &Cast<'_>,
    target: &Deployment,
    state: &AppState,
    plan: &mut Planned,
) -> Option<Transition> {
    let stage = Stage::of(target);
    let app = &cast.app.app;
    let drain = Transition::Advance { stage, to: DeploymentState::Draining, step: 0 };
    let is_checked = app.rollout.auto_rollback
        && target.cause != Cause::Rollback
        && app.policy.client_auth.is_none();
    if !is_checked {
        return Some(drain);
    }
    let told = state.public.as_ref().filter(|(at, _)| *at == stage).map(|(_, outcome)| outcome);
    let error = match told {
        Some(Ok(())) => return Some(drain),
        Some(Err(error)) => error.as_str(),
        None => "no answer came",
    };
    let deadline = target.since + PUBLIC_CHECK;
    if cast.now < deadline {
        plan.wake_at(deadline);
        plan.public_check = Some(PublicCheck::of(app, stage));
        return None;
    }
    let within = weir_config::Span(PUBLIC_CHECK);
    let message = format!("not reached through its public route within {within}: {error}");
    let ending = Ending { message, ..ending("PublicCheckFailed") };
    Some(Transition::End { stage, state: DeploymentState::RolledBack, ending })
}

/// Goes back from a live deployment if it turns out to be bad while the former one is kept for that.
fn bake(
    cast: &Cast<'_>,
    target: &Deployment,
    state: &AppState,
    plan: &mut Planned,
) -> Option<Transition> {
    let rollout = &cast.app.app.rollout;
    let until = target.since + rollout.bake;
    let is_former = |former: &&Deployment| {
        former.state == DeploymentState::Superseded && cast.is_kept(former.number)
    };
    let former = cast.app.deployments.iter().find(is_former)?;
    if !rollout.auto_rollback || until <= cast.now || target.cause == Cause::Rollback {
        return None;
    }
    plan.wake_at(until.min(cast.now + WATCH));
    let ending = breach(&cast.app.app, &state.answers)?;
    Some(Transition::RollBack { to: Some(former.number), ending })
}

/// What of its answers is beyond what may be, if anything is.
fn breach(app: &App, answers: &Answers) -> Option<Ending> {
    let (gates, total) = (&app.rollout.gates, answers.total());
    let fewest = FEWEST.min(app.policy.outlier.failures);
    let is_beyond =
        |part: f64, most: f64| part > most && (part * total as f64).round() >= f64::from(fewest);
    let percent = |part: f64| (part * 1000.0).round() / 10.0;
    if let Some(most) = gates.max_error_rate.filter(|most| is_beyond(answers.error_rate(), *most)) {
        let (found, most) = (percent(answers.error_rate()), percent(most));
        let message = format!("{found} % of {total} answers failed; {most} % may");
        return Some(Ending { message, ..ending("ErrorRateTooHigh") });
    }
    let limit = gates.max_latency.filter(|limit| is_beyond(answers.slower_than(*limit), 0.01))?;
    let (found, limit) = (percent(answers.slower_than(limit)), weir_config::Span(limit));
    let message = format!("{found} % of {total} answers took longer than {limit}; 1 % may");
    Some(Ending { message, ..ending("LatencyTooHigh") })
}

/// Why a deployment on its way, beside a live one, is not tried any further.
fn failed(cast: &Cast<'_>, target: &Deployment, plan: &mut Planned) -> Option<Ending> {
    let deadline = target.since + cast.app.app.rollout.deadline;
    let mut is_final = |instance: &Instance, failure: &Failure| match failure.reason {
        FailureReason::InstanceExited | FailureReason::HealthCheckFailed => true,
        FailureReason::ImageUnavailable if instance.failures >= IMAGE_TRIES => true,
        // These may pass.
        FailureReason::ImageUnavailable
        | FailureReason::SecretUnavailable
        | FailureReason::EngineRefused => {
            if cast.now < deadline {
                plan.wake_at(deadline);
            }
            deadline <= cast.now
        }
        FailureReason::EngineUnreachable => false,
    };
    let failed = cast.current.iter().find_map(|(id, instance)| {
        let failure = instance.failure.as_ref().filter(|failure| is_final(instance, failure))?;
        Some((id, failure))
    });
    let (id, failure) = failed?;
    Some(Ending {
        reason: failure.reason.as_str().to_owned(),
        message: failure.message.clone(),
        instance: Some(id.to_string()),
        exit_code: failure.exit_code,
        log_tail: failure.log_tail.clone(),
    })
}
