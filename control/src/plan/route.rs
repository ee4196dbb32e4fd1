//! What requests for an app meet.

use std::{net::SocketAddr, time::Duration};

use weir_config::{
    Activity, AppRoute, DesiredApp, Endpoint, InstanceId, Moment, RouteState, SleepLevel,
};
use weir_deploy::ContainerState;

use super::{app::Cast, sleep::Target};
use crate::{
    instance::{Health, Instance},
    observed::{Engine, Observed},
};

/// What a client is told to wait. A constant: a count-down would be a new snapshot every second.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) fn route(
    app: &DesiredApp,
    cast: &Cast<'_>,
    target: Target,
    observed: &Observed,
    activity: &Activity,
    now: Moment,
) -> AppRoute {
    let state = match target {
        Target::Asleep(level) => RouteState::Asleep(depth(cast).unwrap_or(level)),
        Target::Awake => awake(app, cast, observed, activity, now),
    };
    with_state(app, state, activity)
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

fn with_state(app: &DesiredApp, state: RouteState, activity: &Activity) -> AppRoute {
    let (wake_timeout, queue) = AppRoute::wait_of(app.app.sleep.as_ref());
    AppRoute {
        app: app.app.name.clone(),
        hostnames: app.app.hostnames.clone(),
        state,
        timeouts: app.app.timeouts.clone(),
        wake_timeout,
        queue,
        activity: activity.app(&app.app.name),
    }
}

fn engine_gone() -> RouteState {
    let reason = "the container engine of its host does not answer".to_owned();
    RouteState::Unavailable { reason, retry_after: RETRY_AFTER }
}

fn awake(
    app: &DesiredApp,
    cast: &Cast<'_>,
    observed: &Observed,
    activity: &Activity,
    now: Moment,
) -> RouteState {
    let endpoints = endpoints(app, cast, activity);
    if !endpoints.is_empty() {
        return RouteState::Serving(endpoints);
    }
    let everyone = || cast.current.iter().map(|(_, instance)| *instance);
    let served = observed.served.app(&app.app.name).map(|route| &route.state);
    if matches!(observed.engine, Engine::Down { .. }) {
        // An engine that is only restarted is worth a wait.
        return match served {
            Some(RouteState::Asleep(level)) => RouteState::Asleep(*level),
            _ => engine_gone(),
        };
    }
    if everyone().all(|instance| instance.is_backing_off(now) || ended(app, instance)) {
        let message = |instance: &Instance| Some(instance.failure.as_ref()?.message.clone());
        let reason = everyone().find_map(message);
        let reason = reason.unwrap_or_else(|| "its process has ended".to_owned());
        return RouteState::Unavailable { reason, retry_after: RETRY_AFTER };
    }
    if everyone().any(|instance| matches!(instance.health, Health::Unhealthy { .. })) {
        let reason = "no instance passes its health check".to_owned();
        return RouteState::Unavailable { reason, retry_after: RETRY_AFTER };
    }
    // A wake is told from a first start by what was served before it.
    match served {
        Some(RouteState::Asleep(level)) => RouteState::Asleep(*level),
        _ => depth(cast).map_or(RouteState::Starting, RouteState::Asleep),
    }
}

/// The ready instances of the current deployment; of former ones as long as it is not ready.
fn endpoints(app: &DesiredApp, cast: &Cast<'_>, activity: &Activity) -> Vec<Endpoint> {
    let endpoint = |id: &InstanceId, instance: &Instance| {
        let container = instance.container.as_ref().filter(|_| instance.is_ready())?;
        Some(Endpoint {
            instance: id.clone(),
            address: SocketAddr::new(container.address?, container.port),
            in_flight: activity.instance(id),
        })
    };
    let current = cast.current.iter().filter_map(|(id, instance)| endpoint(id, instance));
    if cast.is_ready() || cast.makes_room(app) {
        return current.collect();
    }
    let former: Vec<_> =
        cast.former.iter().filter_map(|(id, instance)| endpoint(id, instance)).collect();
    // Two deployments never answer side by side.
    let latest = former.iter().map(|endpoint| endpoint.instance.deployment).max();
    match latest {
        Some(latest) => {
            former.into_iter().filter(|endpoint| endpoint.instance.deployment == latest).collect()
        }
        None => current.collect(),
    }
}

/// How deep the app sleeps, by its containers; `None` when none is asleep.
fn depth(cast: &Cast<'_>) -> Option<SleepLevel> {
    cast.current.iter().filter_map(|(_, instance)| instance.sleeps()).max()
}

/// Whether its process has ended by itself and nothing will start it again. What may sleep may also
/// be woken, whoever ended it.
fn ended(app: &DesiredApp, instance: &Instance) -> bool {
    match instance.state() {
        Some(ContainerState::Exited { code, .. }) => {
            app.app.sleep.is_none()
                && !instance.stopped_by_us
                && !app.deployment.template.restart.restarts(code)
        }
        _ => false,
    }
}
