//! What requests for an app meet.

use std::{net::SocketAddr, time::Duration};

use weir_config::{
    Activity, AppRoute, Backends, DesiredApp, Endpoint, EndpointId, InstanceId, Moment, RouteState,
    SleepLevel,
};
use weir_deploy::ContainerState;

use super::{
    app::Cast,
    pool::{are_instances, pool},
    sleep::Target,
};
use crate::{health::Health, instance::Instance, observed::Observed, served::own_pool};

/// What a client is told to wait. A constant: a count-down would be a new snapshot every second.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) fn route(
    cast: &Cast<'_>,
    target: Target,
    observed: &Observed,
    activity: &Activity,
    now: Moment,
) -> AppRoute {
    let state = match target {
        Target::Asleep(level) => RouteState::Asleep(depth(cast).unwrap_or(level)),
        Target::Awake => awake(cast, observed, activity, now),
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

fn awake(cast: &Cast<'_>, observed: &Observed, activity: &Activity, now: Moment) -> RouteState {
    let app = &cast.app.app;
    let endpoints = endpoints(cast, activity);
    if !endpoints.is_empty() {
        let served = own_pool(&observed.served, &app.name);
        return RouteState::Serving(Backends::Own(pool(served, endpoints, &app.balance)));
    }
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
    if everyone().all(|instance| instance.is_backing_off(now) || ended(cast, instance)) {
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

/// The ready instances of the current deployment; of former ones as long as it is not ready.
fn endpoints(cast: &Cast<'_>, activity: &Activity) -> Vec<Endpoint> {
    let endpoint = |id: &InstanceId, instance: &Instance| {
        let container = instance.container.as_ref().filter(|_| instance.is_ready())?;
        let id = EndpointId::from(id.clone());
        Some(Endpoint {
            address: SocketAddr::new(container.address?, container.port),
            weight: 1,
            ready_since: instance.health.ready_since()?,
            activity: activity.endpoint(&id),
            id,
        })
    };
    let current = cast.current.iter().filter_map(|(id, instance)| endpoint(id, instance));
    if cast.is_ready() || cast.makes_room() {
        return current.collect();
    }
    let former: Vec<_> =
        cast.stand_ins().filter_map(|(id, instance)| endpoint(id, instance)).collect();
    // Two deployments never answer side by side.
    let deployment = |endpoint: &Endpoint| endpoint.id.instance().map(|id| id.deployment);
    match former.iter().map(deployment).max() {
        // Some of it is moving to other hosts.
        Some(latest) if latest == Some(cast.deployment.number) => {
            current.chain(former.into_iter().filter(|e| deployment(e) == latest)).collect()
        }
        Some(latest) => former.into_iter().filter(|e| deployment(e) == latest).collect(),
        None => current.collect(),
    }
}

/// How deep the app sleeps, by its containers; `None` when none is asleep.
fn depth(cast: &Cast<'_>) -> Option<SleepLevel> {
    cast.current.iter().filter_map(|(_, instance)| instance.sleeps()).max()
}

/// Whether its process has ended by itself and nothing will start it again. What may sleep may also
/// be woken, whoever ended it.
fn ended(cast: &Cast<'_>, instance: &Instance) -> bool {
    match instance.state() {
        Some(ContainerState::Exited { code, .. }) => {
            cast.app.app.sleep.is_none()
                && !instance.stopped_by_us
                && !cast.deployment.template.restart.restarts(code)
        }
        _ => false,
    }
}
