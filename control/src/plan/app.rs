//! One app of an image: what serves it, what is done to each of its instances, and how far its
//! deployments are.

use weir_config::{Activity, AppRoute, DesiredApp, InstanceId, Moment};

use super::{
    Planned,
    cast::Cast,
    instances::{park, plan_stand_in, plan_wanted, retire},
    placement::Places,
    rollout, route,
    sleep::{self, Target},
};
use crate::instance::Instance;

/// Plans one app: adds its actions, probes, transition and next deadline to `plan`, and returns its
/// route.
pub(super) fn plan_app(
    app: &DesiredApp,
    places: &Places<'_>,
    activity: &Activity,
    now: Moment,
    plan: &mut Planned,
) -> AppRoute {
    let cast = Cast::of(app, places, now);
    let mut state = places.observed.apps.get(&app.app.name).cloned().unwrap_or_default();
    // A former deployment slept, perhaps before a restart: a new one is verified awake.
    state.asleep = state.asleep.filter(|_| cast.under_way().is_none() && cast.was_started());
    let (target, until) = sleep::target(app.app.sleep.as_ref(), &state, cast.at_ease_since(), now);
    if let Some(at) = until {
        plan.wake_at(at);
    }
    if let Target::Asleep(level) = target
        && state.asleep != Some(level)
    {
        plan.asleep = Some(level);
    }
    if let Some(deployment) = cast.target {
        let wanted = rollout::wanted(&cast);
        for (id, instance) in cast.current.iter().filter(|(id, _)| id.ordinal < wanted) {
            plan.probe(id, instance, &app.app.health);
            plan_wanted(&cast, deployment, id, instance, target, plan);
        }
    }
    for (id, instance) in &cast.coming {
        plan.probe(id, instance, &app.app.health);
        if let Some(deployment) = cast.target {
            // Whether the app sleeps or not.
            plan_wanted(&cast, deployment, id, instance, Target::Awake, plan);
        }
    }
    for (id, instance) in &cast.former {
        plan.probe(id, instance, &app.app.health);
        plan_former(&cast, id, instance, target, plan);
    }
    for (id, instance) in &cast.others {
        plan_other(&cast, id, instance, target, plan);
    }
    plan.converged = state.converging && cast.is_settled();
    // What is on its way to the store comes back from there.
    if !state.is_recording {
        plan.transition = rollout::next(&cast, &state, plan);
    }
    route::route(&cast, target, activity)
}

/// The next step of an instance that serves until the target does.
fn plan_former(
    cast: &Cast<'_>,
    id: &InstanceId,
    instance: &Instance,
    target: Target,
    plan: &mut Planned,
) {
    let Cast { observed, now, .. } = *cast;
    let rollout = &cast.app.app.rollout;
    match cast.live {
        Some(_) if rollout::leaves(cast, id.ordinal) => {
            park(cast, id, instance, plan);
        }
        Some(live) => plan_wanted(cast, live, id, instance, target, plan),
        None if cast.is_ready() || sleeps(cast, target) || cast.makes_room() => {
            retire(id, instance, observed, rollout, now, plan);
        }
        None if target == Target::Awake && instance.doing.is_none() => {
            plan_stand_in(id, instance, now, plan);
        }
        None => {}
    }
}

/// Whether the app is asleep and is to be, so that nobody has to stand in for its instances.
fn sleeps(cast: &Cast<'_>, target: Target) -> bool {
    matches!(target, Target::Asleep(_)) && cast.is_asleep()
}

/// The next step of an instance that serves nobody.
fn plan_other(
    cast: &Cast<'_>,
    id: &InstanceId,
    instance: &Instance,
    target: Target,
    plan: &mut Planned,
) {
    let Cast { observed, now, .. } = *cast;
    let rollout = &cast.app.app.rollout;
    if cast.keeps(id) && id.ordinal < cast.app.app.instances {
        let until = cast.app.deployment(id.deployment).and_then(|kept| kept.kept_until);
        until.into_iter().for_each(|until| plan.wake_at(until));
        return park(cast, id, instance, plan);
    }
    // Until then requests are sent to it, if they are to anybody.
    if cast.stands_in(id, instance) && !sleeps(cast, target) {
        plan.probe(id, instance, &cast.app.app.health);
        if target == Target::Awake && instance.doing.is_none() {
            plan_stand_in(id, instance, now, plan);
        }
    } else {
        retire(id, instance, observed, rollout, now, plan);
    }
}
