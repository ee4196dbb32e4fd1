//! What the world says about an object: computed from the same values that the plan is made from,
//! never stored, so that it cannot disagree with them.

pub(crate) mod deployments;
mod failover;
mod hosts;
mod members;
mod zones;

use weir_config::{
    Activity, DeploymentState, DesiredApp, InstanceId, Moment, RouteState, SleepLevel,
};
use weir_deploy::ContainerState;

use crate::{
    api::wire::{AppStatus, Condition, FailureDetails, InstanceResource, Phase},
    health::Health,
    host::HostSeen,
    instance::Instance,
    observed::Observed,
    plan::{
        placement::{Placed, Places},
        unseen,
    },
    reconciler::World,
    subject::Subject,
};

pub(crate) use failover::{failover_health, simulation};
pub(crate) use hosts::{drift, host_status};
pub(crate) use members::shard_status;
pub(crate) use zones::zone_status;

/// How an app stands, by those who should answer its requests.
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    ready: u16,
    wanted: u16,
    pub(crate) failure: Option<FailureDetails>,
    /// What is counted.
    noun: &'static str,
    /// Why some of them are nowhere, or nothing is known of them.
    why_not: Option<String>,
}

impl Standing {
    /// Why it is in its phase, as a sentence.
    pub(crate) fn summary(&self) -> String {
        match &self.failure {
            Some(failure) if self.phase != Phase::Ready => failure.message.clone(),
            _ => self.count(),
        }
    }

    fn count(&self) -> String {
        format!("{} of {} {} are ready", self.ready, self.wanted, self.noun)
    }
}

/// How an app stands that the loop has taken in.
pub(crate) fn standing(app: &DesiredApp, world: &World, now: Moment) -> Standing {
    match app.is_image() {
        true => of_instances(app, world, now),
        false => members::standing(app, world),
    }
}

/// The status of an app that the loop has taken in.
pub(crate) fn app_status(
    app: &DesiredApp,
    world: &World,
    activity: &Activity,
    now: Moment,
    https_port: u16,
) -> AppStatus {
    let observed = &world.observed;
    let standing = standing(app, world, now);
    AppStatus {
        phase: standing.phase,
        observed_generation: app.generation,
        url: url(app, https_port),
        deployment: app.target().map(|deployment| deployment.number),
        live_deployment: app.live().map(|deployment| deployment.number),
        image: app.target().map(|deployment| deployment.template.image.clone()),
        ready_instances: standing.ready,
        desired_instances: standing.wanted,
        requests_in_flight: activity.app(&app.app.name).in_flight(),
        upstreams: members::upstreams(app, observed, activity),
        conditions: conditions(app, &standing, world),
        failure: standing.failure,
    }
}

fn of_instances(app: &DesiredApp, world: &World, now: Moment) -> Standing {
    let World { desired, observed, .. } = world;
    let places = Places::new(desired, observed);
    let placed = app.target().map(|target| places.place(app, target));
    let Placed { instances, unplaced, coming: _ } = placed.unwrap_or_default();
    let current = observed.known(instances);
    let unseen = unseen(app, &places);
    let ready = current.iter().filter(|(_, instance)| instance.is_ready()).count() as u16;
    let failed = deployments::failed(app);
    let phase = match (phase(app, &current, ready, unseen.is_some(), observed, now), failed) {
        (Phase::Ready, Some(_)) => Phase::Degraded,
        (phase, _) => phase,
    };
    let of_instance = current.iter().find_map(|(id, instance)| failure_details(id, instance, now));
    Standing {
        phase,
        ready,
        wanted: app.app.instances,
        failure: of_instance.or_else(|| failed.and_then(deployments::failure)),
        noun: "instances",
        why_not: unplaced.or_else(|| unseen.map(host_message)),
    }
}

fn phase(
    app: &DesiredApp,
    current: &[(InstanceId, &Instance)],
    ready: u16,
    is_unseen: bool,
    observed: &Observed,
    now: Moment,
) -> Phase {
    let route = observed.served.app(&app.app.name).map(|route| &route.state);
    let failed = current.iter().any(|(_, instance)| instance.is_backing_off(now));
    let unhealthy =
        |(_, instance): &(_, &Instance)| matches!(instance.health, Health::Unhealthy { .. });
    let unplaced = current.len() < usize::from(app.app.instances);
    let is_on_its_way = app.target().is_some_and(|t| t.state < DeploymentState::Draining);
    match route {
        Some(RouteState::Serving(_)) if is_on_its_way && app.live().is_some() => Phase::Progressing,
        Some(RouteState::Serving(_)) if ready == app.app.instances && !is_on_its_way => {
            Phase::Ready
        }
        Some(RouteState::Serving(_)) if failed || unplaced || current.iter().any(unhealthy) => {
            Phase::Degraded
        }
        Some(RouteState::Unavailable { .. }) => Phase::Failed,
        _ if is_unseen => Phase::Unknown,
        Some(RouteState::Asleep(_)) if is_waking(app, observed) => Phase::Progressing,
        Some(RouteState::Asleep(_)) => match asleep(current) {
            Some(SleepLevel::Paused) => Phase::Paused,
            Some(SleepLevel::Stopped) => Phase::Stopped,
            None => Phase::Progressing,
        },
        _ if failed => Phase::Failed,
        _ => Phase::Progressing,
    }
}

fn is_waking(app: &DesiredApp, observed: &Observed) -> bool {
    observed
        .apps
        .get(&app.app.name)
        .is_some_and(|state| state.asleep.is_none() || state.wake_wanted)
}

/// How deep every instance sleeps; `None` while one is still on its way.
fn asleep(current: &[(InstanceId, &Instance)]) -> Option<SleepLevel> {
    let levels: Option<Vec<_>> = current
        .iter()
        .map(|(_, instance)| match instance.state() {
            _ if instance.doing.is_some() => None,
            Some(ContainerState::Paused) => Some(SleepLevel::Paused),
            Some(ContainerState::Exited { .. }) | None => Some(SleepLevel::Stopped),
            Some(_) => None,
        })
        .collect();
    levels?.into_iter().max()
}

fn url(app: &DesiredApp, https_port: u16) -> String {
    let host = &app.app.hostnames[0];
    match https_port {
        443 => format!("https://{host}/"),
        port => format!("https://{host}:{port}/"),
    }
}

fn failure_details(id: &InstanceId, instance: &Instance, now: Moment) -> Option<FailureDetails> {
    let failure = instance.failure.as_ref()?;
    Some(FailureDetails {
        reason: failure.reason.as_str().to_owned(),
        message: failure.message.clone(),
        instance: id.to_string(),
        exit_code: failure.exit_code,
        log_tail: failure.log_tail.clone(),
        retry_in: instance.waits_until(now).map(|at| at.since(now).as_secs()),
    })
}

/// What can be said of an app that stands so; not since when.
pub(crate) fn conditions(app: &DesiredApp, standing: &Standing, world: &World) -> Vec<Condition> {
    let observed = &world.observed;
    let Standing { phase, ready, wanted, failure, why_not, .. } = standing;
    let phase = *phase;
    let condition = |kind: &str, status: Option<bool>, reason: &str, message: String| Condition {
        kind: kind.to_owned(),
        status: status.map_or_else(|| "unknown".to_owned(), |status| status.to_string()),
        reason: reason.to_owned(),
        message,
        observed_generation: app.generation,
        last_transition_at: String::new(),
    };
    let all_ready = if app.is_image() { "AllInstancesReady" } else { "AllMembersReady" };
    let served = observed.served.app(&app.app.name);
    let count = standing.count();
    let (is_ready, reason, message) = match (phase, failure) {
        (Phase::Ready, _) => (Some(true), all_ready, count.clone()),
        (Phase::Paused | Phase::Stopped, _) => {
            (Some(true), "Asleep", "the next request wakes it".to_owned())
        }
        (Phase::Unknown, _) => (None, "EngineUnknown", why_not.clone().unwrap_or_default()),
        (Phase::Progressing | Phase::Degraded | Phase::Failed, None) if why_not.is_some() => {
            (Some(false), "NoHost", why_not.clone().unwrap_or_default())
        }
        (Phase::Progressing, None) => (Some(false), "Progressing", count.clone()),
        (_, Some(failure)) => (Some(false), failure.reason.as_str(), failure.message.clone()),
        (_, None) => {
            (Some(false), "NotServing", unavailable(served).unwrap_or_else(|| count.clone()))
        }
    };
    let rollout = app.target().map_or_else(|| count.clone(), deployments::progress);
    let progressing = phase == Phase::Progressing;
    let sleeping = matches!(phase, Phase::Paused | Phase::Stopped);
    let route = served.map_or("none", |route| route.state.as_str());
    let generation = observed.served.generation;
    let routed = format!("served as {route} by snapshot {generation}");
    let (is_routed, published, routed) =
        match world.refusals.get(&Subject::App(app.app.name.clone())) {
            Some(refusal) => (false, refusal.cause.as_str(), refusal.message.clone()),
            None => (served.is_some(), "Published", routed),
        };
    vec![
        condition("Ready", is_ready, reason, message),
        condition(
            "Progressing",
            Some(progressing),
            if progressing { "Converging" } else { "Settled" },
            rollout,
        ),
        condition(
            "Healthy",
            (!sleeping && phase != Phase::Unknown).then_some(ready == wanted),
            if sleeping { "Asleep" } else { "Probed" },
            count,
        ),
        condition("Routed", Some(is_routed), published, routed),
        condition("Sleeping", Some(sleeping), "IdlePolicy", phase.as_str().to_owned()),
    ]
    .into_iter()
    .chain(deployments::up_to_date(app))
    .collect()
}

fn unavailable(served: Option<&std::sync::Arc<weir_config::AppRoute>>) -> Option<String> {
    match &served?.state {
        RouteState::Unavailable { reason, .. } => Some(reason.clone()),
        _ => None,
    }
}

/// Why nothing is known of a host's containers.
fn host_message(host: &HostSeen) -> String {
    let error = host.error.as_deref();
    error.unwrap_or("the container engine has not answered yet").to_owned()
}

/// One instance as the API shows it.
pub(crate) fn instance(
    id: &InstanceId,
    instance: &Instance,
    activity: &Activity,
) -> InstanceResource {
    let container = instance.container.as_ref();
    let message = match (&instance.failure, &instance.health) {
        (Some(failure), _) => Some(failure.message.clone()),
        (None, Health::Unhealthy { error, .. }) => Some(error.clone()),
        (None, Health::Starting { error, .. }) => error.clone(),
        (None, Health::Ready { .. }) => None,
    };
    InstanceResource {
        name: id.to_string(),
        app: id.app.to_string(),
        deployment: id.deployment,
        ordinal: id.ordinal,
        host: id.host.to_string(),
        state: instance_state(instance).to_owned(),
        container: container.map(|container| container.id.chars().take(12).collect()),
        address: container
            .and_then(|container| Some(format!("{}:{}", container.address?, container.port))),
        requests_in_flight: activity.in_flight_on(&id.clone().into()),
        restarts: container.map_or(0, |container| container.restarts),
        doing: instance.doing.as_ref().map(|action| action.verb().to_owned()),
        message,
    }
}

fn instance_state(instance: &Instance) -> &'static str {
    match (instance.state(), &instance.health) {
        (None, _) if instance.failure.is_some() => "failed",
        (None, _) => "pending",
        (Some(ContainerState::Created), _) => "created",
        (Some(ContainerState::Running), Health::Ready { .. }) => "ready",
        (Some(ContainerState::Running), Health::Starting { .. }) => "starting",
        (Some(ContainerState::Running), Health::Unhealthy { .. }) => "unhealthy",
        (Some(ContainerState::Paused), _) => "paused",
        (Some(ContainerState::Restarting), _) => "restarting",
        (Some(ContainerState::Exited { .. }), _) if instance.failure.is_some() => "failed",
        (Some(ContainerState::Exited { .. }), _) if instance.stopped_by_us => "stopped",
        (Some(ContainerState::Exited { .. }), _) => "exited",
        (Some(ContainerState::Dead), _) => "dead",
    }
}
