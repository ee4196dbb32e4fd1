//! `/v1/discovery`: which app is where, and how it is reached.

use axum::{
    Json,
    extract::{Path, State},
};
use weir_config::{AppName, DesiredApp, Engine, Moment};

use super::{
    ApiState,
    call::parse_name,
    problem::ApiProblem,
    wire::{DiscoveredApp, InstanceResource, List, Place, ProblemDetails},
};
use crate::{reconciler::World, status};

/// Every app, with the hosts and devices that it runs on.
#[utoipa::path(get, path = "/v1/discovery", responses((status = 200, body = List<DiscoveredApp>)))]
pub(crate) async fn list(State(state): State<ApiState>) -> Json<List<DiscoveredApp>> {
    let world = state.world();
    let apps = world.desired.apps.values();
    Json(List::whole(apps.map(|app| discovered(app, &world, &state)).collect()))
}

/// One app, with the hosts and devices that it runs on.
#[utoipa::path(get, path = "/v1/discovery/{name}",
    responses((status = 200, body = DiscoveredApp), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<DiscoveredApp>, ApiProblem> {
    let name: AppName = parse_name(&name)?;
    let world = state.world();
    let app = world.desired.apps.get(&name);
    let app = app.ok_or_else(|| ApiProblem::not_found(&format!("there is no app `{name}`")))?;
    Ok(Json(discovered(app, &world, &state)))
}

fn discovered(app: &DesiredApp, world: &World, state: &ApiState) -> DiscoveredApp {
    let name = &app.app.name;
    let (now, port) = (Moment::now(), state.https_port);
    let status = status::app_status(app, world, &state.activity, now, port);
    let allow = &app.app.policy.allow;
    let instances = world.observed.instances.iter().filter(|(id, _)| id.app == *name);
    let places = instances.map(|(id, instance)| {
        let seen = status::instance(id, instance, &state.activity);
        let InstanceResource { name: instance, state, address, .. } = seen;
        let is_device = |host: &weir_config::Host| host.engine == Engine::Device;
        Place {
            instance,
            host: id.host.to_string(),
            device: world.desired.hosts.get(&id.host).is_some_and(|host| is_device(host)),
            host_state: world.observed.host(&id.host).state.to_string(),
            state,
            address,
        }
    });
    DiscoveredApp {
        app: name.to_string(),
        phase: status.phase,
        url: status.url,
        private_url: (!allow.is_empty()).then(|| format!("http://{}/", name.private_hostname())),
        allow: allow.iter().map(ToString::to_string).collect(),
        places: places.collect(),
    }
}
