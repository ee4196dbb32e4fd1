//! What requests for an app meet.

use std::{net::SocketAddr, time::Duration};

use weir_config::{
    Activity, AppRoute, Backends, Deployment, DesiredApp, Endpoint, EndpointId, InstanceId,
    RouteState, SleepLevel,
};
use weir_deploy::ContainerState;

use super::{
    cast::Cast,
    pool::{are_instances, pool},
    rollout::{Traffic, traffic},
    sleep::Target,
};
use crate::{health::Health, instance::Instance, observed::Observed, served::own_pool};

/// What a client is told to wait. A constant: a count-down would be a new snapshot every second.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) fn route(cast: &Cast<'_>, target: Target, activity: &Activity) -> AppRoute {
    let state = match target {
        Target::Asleep(level) => RouteState::Asleep(depth(cast).unwrap_or(level)),
        Target::Awake => awake(cast, activity),
    };
    with_state(cast.app, state, activity)
}

/// The route of an app whose containers have not been seen since this process began: `None` when
/// what is served already is the best there is.
pub(super) fn unseen(
    app: &DesiredApp,
    observed: &Observed,
    activity: &Activity,
    error: &Option<String>,
) -> Option<AppRoute> {
    let served = observed.served.app(&app.app.name).map(|route| &route.state);
    match (served, error) {
        (Some(RouteState::Serving(_) | RouteState::Asleep(_)), _) | (Some(_), None) => None,
        (None, None) => Some(with_state(app, RouteState::Starting, activity)),
        (_, Some(_)) => Some(with_state(app, engine_gone(), activity)),
    }
}

pub(super) fn with_state(app: &DesiredApp, state: RouteState, activity: &Activity) -> AppRoute {
    let (wake_timeout, queue) = AppRoute::wait_of(app.app.sleep.as_ref());
    AppRoute {
        app: app.app.name.clone(),
        hostnames: app.app.hostnames.clone(),
        state,
        policy: app.app.policy.clone(),
        wake_timeout,
        queue,
        activity: activity.app(&app.app.name),
    }
}

fn engine_gone() -> RouteState {
    unavailable("the container engine of its host does not answer")
}

pub(super) fn unavailable(reason: &str) -> RouteState {
    RouteState::Unavailable { reason: reason.to_owned(), retry_after: RETRY_AFTER }
}

fn awake(cast: &Cast<'_>, activity: &Activity) -> RouteState {
    let Cast { observed, now, .. } = *cast;
    let app = &cast.app.app;
    let endpoints = endpoints(cast, activity);
    if !endpoints.is_empty() {
        let served = own_pool(&observed.served, &app.name);
        return RouteState::Serving(Backends::Own(pool(served, endpoints, &app.balance)));
    }
    let Some(deployment) = cast.target else {
        return unavailable("its deployment was called off before it was live; deploy it again");
    };
    let everyone = || cast.current.iter().map(|(_, instance)| *instance);
    let served = observed.served.app(&app.name).map(|route| &route.state);
    if let Some(RouteState::Serving(backends)) = served
        && !are_instances(backends)
    {
        // It was no image before: what it was serves until an instance is ready.
        return RouteState::Serving(backends.clone());
    }
    if let (Some(reason), []) = (&cast.unplaced, cast.current.as_slice()) {
        return unavailable(reason);
    }
    if cast.current.iter().any(|(id, _)| !observed.host(&id.host).answers()) {
        // An engine that is only restarted is worth a wait.
        return match served {
            Some(RouteState::Asleep(level)) => RouteState::Asleep(*level),
            _ => engine_gone(),
        };
    }
    if everyone().all(|instance| instance.is_backing_off(now) || ended(cast, deployment, instance))
    {
        let failure = everyone().find_map(|instance| instance.failure.as_ref());
        return unavailable(failure.map_or("its process has ended", |failure| &failure.message));
    }
    if everyone().any(|instance| matches!(instance.health, Health::Unhealthy { .. })) {
        return unavailable("no instance passes its health check");
    }
    // A wake is told from a first start by what was served before it.
    match served {
        Some(RouteState::Asleep(level)) => RouteState::Asleep(*level),
        _ => depth(cast).map_or(RouteState::Starting, RouteState::Asleep),
    }
}

/// The ready instances of whoever answers the requests. If none of them is ready, of the other
/// deployment: it still runs, or runs already.
fn endpoints(cast: &Cast<'_>, activity: &Activity) -> Vec<Endpoint> {
    let traffic = traffic(cast);
    let ready = |instances: &[(InstanceId, &Instance)], weight: fn(Traffic, u16) -> u16| {
        let endpoint = |(id, instance): &(InstanceId, &Instance)| {
            endpoint(id, instance, weight(traffic, id.ordinal), activity)
        };
        instances.iter().filter_map(endpoint).collect::<Vec<_>>()
    };
    let mut found = ready(&cast.current, Traffic::of_current);
    found.extend(ready(&cast.former, Traffic::of_former));
    // Those that are moving to other hosts serve with their own.
    let target = cast.target.map(|target| target.number);
    let moving = cast.others.iter().filter(|(id, instance)| cast.stands_in(id, instance));
    found.extend(moving.filter_map(|(id, instance)| {
        let weight = match Some(id.deployment) == target {
            true => traffic.of_current(id.ordinal),
            false => traffic.of_former(id.ordinal),
        };
        endpoint(id, instance, weight, activity)
    }));
    if found.is_empty() && !cast.makes_room() {
        found = ready(&cast.former, |_, _| 1);
    }
    if found.is_empty() {
        found = ready(&cast.current, |_, _| 1);
    }
    found
}

/// An instance that requests can go to, by its share of them.
fn endpoint(
    id: &InstanceId,
    instance: &Instance,
    weight: u16,
    activity: &Activity,
) -> Option<Endpoint> {
    let is_open = weight > 0 && instance.is_ready();
    let container = instance.container.as_ref().filter(|_| is_open)?;
    let id = EndpointId::from(id.clone());
    Some(Endpoint {
        address: SocketAddr::new(container.address?, container.port),
        reach: container.reach,
        weight,
        ready_since: instance.health.ready_since()?,
        activity: activity.endpoint(&id),
        id,
    })
}

/// How deep the app sleeps, by its containers; `None` when none is asleep.
fn depth(cast: &Cast<'_>) -> Option<SleepLevel> {
    cast.current.iter().filter_map(|(_, instance)| instance.sleeps()).max()
}

/// Whether its process has ended by itself and nothing will start it again. What may sleep may also
/// be woken, whoever ended it.
fn ended(cast: &Cast<'_>, deployment: &Deployment, instance: &Instance) -> bool {
    match instance.state() {
        Some(ContainerState::Exited { code, .. }) => {
            cast.app.app.sleep.is_none()
                && !instance.stopped_by_us
                && !deployment.template.restart.restarts(code)
        }
        _ => false,
    }
}
