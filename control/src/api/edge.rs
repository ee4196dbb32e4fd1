//! `/v1/edge`: the calls of an orchestrator of devices, for programs that know them. Each is one of
//! ours: a container is an app that is placed on a device.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
};
use weir_config::{
    App, AppManifest, AppName, AppSpec, DEVICE_LABEL, HostName, PlacementSpec, Problem, Problems,
    SleepLevel, decode,
};

use super::{
    ApiState, apps,
    call::{Answer, Call, parse_name},
    devices, discovery,
    problem::ApiProblem,
    wait::WaitQuery,
    wire::{
        AppResource, DeployToEdge, DeviceState, DiscoveredApp, EdgeContainer, EdgeHealth,
        ProblemDetails,
    },
};
use crate::{status, store::Precondition};

/// Runs an image on a device, or another image in its place: `PUT /v1/apps/{name}` with
/// `placement: {hosts: {device: DEVICE}}`.
#[utoipa::path(post, path = "/v1/edge/deploy_to_edge", params(WaitQuery),
    request_body = DeployToEdge,
    responses((status = 200, body = AppResource), (status = 201, body = AppResource),
        (status = 404, body = ProblemDetails), (status = 409, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn deploy_to_edge(call: Call) -> Answer {
    let asked: DeployToEdge = decode(call.json()?)?;
    let device: HostName = parse_name(&asked.device)?;
    devices::stored(&call.state, &device).await?;
    let name = asked.name.unwrap_or_else(|| name_of(&asked.image).to_owned());
    let hosts = BTreeMap::from([(DEVICE_LABEL.to_owned(), device.to_string())]);
    let mut spec = match name.parse::<AppName>() {
        Ok(name) => call.state.store.find::<App>(&name).await?.map(|record| record.spec),
        Err(why) => {
            return Err(Problems(vec![Problem::new("/name", "bad_name", why)]).into());
        }
    }
    .unwrap_or_else(|| AppSpec {
        placement: PlacementSpec { hosts: hosts.clone(), ..PlacementSpec::default() },
        ..AppSpec::default()
    });
    if spec.placement.hosts != hosts {
        let why = format!("`{name}` is an app that runs elsewhere; choose another name");
        return Err(ApiProblem::conflict("name_taken", why));
    }
    spec.image = Some(asked.image);
    spec.env.extend(asked.env);
    spec.port = asked.port.unwrap_or(spec.port);
    let manifest = AppManifest { kind: "App".to_owned(), name, spec };
    let app = App::from_manifest(&manifest, &call.state.base_domain)?;
    call.write(&manifest.spec, &app, Precondition::None).await
}

/// Where a container is reached: `GET /v1/discovery/{name}`.
#[utoipa::path(get, path = "/v1/edge/get_address/{name}",
    responses((status = 200, body = DiscoveredApp), (status = 404, body = ProblemDetails)))]
pub(crate) async fn get_address(
    state: State<ApiState>,
    name: Path<String>,
) -> Result<Json<DiscoveredApp>, ApiProblem> {
    discovery::read(state, name).await
}

/// Stops a container until the next request or `wake`: `POST /v1/apps/{name}/actions/sleep`.
#[utoipa::path(post, path = "/v1/edge/stop_container/{name}", params(WaitQuery),
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn stop_container(call: Call) -> Answer {
    apps::put_to_sleep(call, SleepLevel::Stopped).await
}

/// Deletes a container: `DELETE /v1/apps/{name}`.
#[utoipa::path(post, path = "/v1/edge/delete_container/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails)))]
pub(crate) async fn delete_container(call: Call) -> Answer {
    apps::delete(call).await
}

/// How a device is and what runs there: `GET /v1/devices/{name}` and `GET /v1/instances`.
#[utoipa::path(get, path = "/v1/edge/health_check/{name}",
    responses((status = 200, body = EdgeHealth), (status = 404, body = ProblemDetails)))]
pub(crate) async fn health_check(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<EdgeHealth>, ApiProblem> {
    let name: HostName = parse_name(&name)?;
    let device = devices::shown(&state, devices::stored(&state, &name).await?);
    let world = state.world();
    let seen = world.observed.host(&name);
    let here = world.observed.instances.iter().filter(|(id, _)| id.host == name);
    let containers = here.map(|(id, instance)| {
        let shown = status::instance(id, instance, &state.activity);
        EdgeContainer {
            name: shown.app,
            instance: shown.name,
            state: shown.state,
            restarts: shown.restarts,
            message: shown.message,
        }
    });
    Ok(Json(EdgeHealth {
        healthy: device.state == DeviceState::Connected && seen.answers(),
        device: device.name,
        state: device.state,
        host_state: seen.state.to_string(),
        about: device.about,
        containers: containers.collect(),
    }))
}

/// What an image is called without its registry, its team and its tag.
fn name_of(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split([':', '@']).next().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_called_as_its_image_is() {
        for image in
            ["shop", "shop:1.2", "team/shop", "registry:5000/team/shop:2", "a/shop@sha256:0f"]
        {
            assert_eq!(name_of(image), "shop", "{image}");
        }
    }
}
