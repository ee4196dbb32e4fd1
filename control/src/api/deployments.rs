//! `/v1/apps/{name}/deployments`, and what can be asked for about them.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use weir_config::{App, AppManifest, AppName, Ending};

use super::{
    ApiState,
    call::{Answer, Call, Shown, parse_name},
    problem::ApiProblem,
    wait::WaitQuery,
    wire::{
        AppResource, DeployRequest, DeploymentResource, List, ProblemDetails, PromoteRequest,
        RollbackRequest, RolloutPreview,
    },
};
use crate::{
    plan::placement::Places,
    status::deployments,
    store::{Kind, Precondition, Record, Verb},
    transition::{ASKED_FOR, Transition, ending},
};

/// An app's deployments that are remembered, the newest first.
#[utoipa::path(get, path = "/v1/apps/{name}/deployments",
    responses((status = 200, body = List<DeploymentResource>),
        (status = 404, body = ProblemDetails)))]
pub(crate) async fn list(State(state): State<ApiState>, Path(name): Path<String>) -> Answer {
    let name: AppName = parse_name(&name)?;
    state.store.read::<App>(&name).await?;
    let records = state.store.deployments(&name).await?;
    let items: Vec<DeploymentResource> = records.into_iter().map(deployments::resource).collect();
    Ok(Json(List::whole(items)).into_response())
}

/// One deployment.
#[utoipa::path(get, path = "/v1/apps/{name}/deployments/{number}",
    responses((status = 200, body = DeploymentResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path((name, number)): Path<(String, String)>,
) -> Answer {
    let name: AppName = parse_name(&name)?;
    let records = state.store.deployments(&name).await?;
    let is_asked_for = |n: u64| number.parse() == Ok(n);
    let found = records.into_iter().find(|record| is_asked_for(record.deployment.number));
    let gone = || ApiProblem::not_found(&format!("{name} has no deployment {number}"));
    Ok(Json(deployments::resource(found.ok_or_else(gone)?)).into_response())
}

/// How a spec would be rolled out if it was written now; nothing is changed.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/preview", request_body = AppManifest,
    responses((status = 200, body = RolloutPreview), (status = 422, body = ProblemDetails)))]
pub(crate) async fn preview(call: Call) -> Answer {
    let (_, app) = call.object::<App>()?;
    let world = call.state.world();
    let now = world.desired.apps.get(&app.name).map(|app| &**app);
    Ok(Json(deployments::preview(&app, now)).into_response())
}

/// Makes a new deployment: of another image, or of the same one anew.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/deploy", params(WaitQuery),
    request_body = DeployRequest,
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn deploy(call: Call) -> Answer {
    let request: DeployRequest = call.request()?;
    begin(&call, request.image, Verb::Deploy).await
}

/// Makes a new deployment of the spec as it is.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/redeploy", params(WaitQuery),
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn redeploy(call: Call) -> Answer {
    begin(&call, None, Verb::Deploy).await
}

/// Makes a new deployment of exactly the image that another app runs.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/promote", params(WaitQuery),
    request_body = PromoteRequest,
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn promote(call: Call) -> Answer {
    let request: PromoteRequest = call.request()?;
    let image = image_of(&call.state, &parse_name(&request.from)?).await?;
    begin(&call, Some(image), Verb::Promote).await
}

/// The name by which exactly the image of an app's live deployment can be had.
async fn image_of(state: &ApiState, app: &AppName) -> Result<String, ApiProblem> {
    state.store.read::<App>(app).await?;
    let (world, providers) = (state.world(), state.providers.load());
    let meant = world.desired.apps.get(app);
    let places = Places::new(&world.desired, &world.observed);
    let instances = meant.and_then(|meant| Some(places.place(meant, meant.live()?).instances));
    let instances = instances.into_iter().flatten();
    let mut made = instances.filter(|id| world.observed.container(id).is_some());
    let found = made.find_map(|id| Some((providers.get(&id.host)?.clone(), id)));
    let (provider, instance) = found.ok_or_else(|| {
        let why = format!("{app} has no live deployment with a container; deploy it first");
        ApiProblem::conflict("not_live", why)
    })?;
    let exact = provider.exact_image(&instance).await;
    exact.map_err(|error| ApiProblem::unavailable(&error.to_string()))
}

async fn begin(call: &Call, image: Option<String>, verb: Verb) -> Answer {
    let (store, base_domain) = (&call.state.store, &call.state.base_domain);
    let Record { name, mut spec, meta, .. } = store.read::<App>(&call.name::<App>()?).await?;
    spec.image = image.or(spec.image);
    if spec.image.is_none() {
        let why = format!("{name} has no image to deploy; change what answers it by an apply");
        return Err(ApiProblem::conflict("no_image", why));
    }
    let (kind, name) = (Kind::App.as_str().to_owned(), name.to_string());
    let manifest = AppManifest { kind, name, spec };
    let app = App::from_manifest(&manifest, base_domain)?;
    let unchanged_since = Precondition::Revision(meta.revision);
    let written = store.put(&manifest.spec, &app, unchanged_since, call.cause(verb)).await?;
    let operation = written.operation.as_ref();
    call.answer(StatusCode::ACCEPTED, written.record, operation, App::is_settled).await
}

/// Brings a former deployment back. The spec stays as it is.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/rollback", params(WaitQuery),
    request_body = RollbackRequest,
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn roll_back(call: Call) -> Answer {
    let request: RollbackRequest = call.request()?;
    let transition = Transition::RollBack { to: request.to, ending: asked_for(&call) };
    change(&call, &transition, Verb::RollBack).await
}

/// Calls off the deployment that is on its way. What served before serves on.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/cancel", params(WaitQuery),
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn cancel(call: Call) -> Answer {
    change(&call, &Transition::Cancel { ending: asked_for(&call) }, Verb::Cancel).await
}

fn asked_for(call: &Call) -> Ending {
    Ending { message: format!("asked for by {}", call.token.id), ..ending(ASKED_FOR) }
}

async fn change(call: &Call, transition: &Transition, verb: Verb) -> Answer {
    let (state, name) = (&call.state, call.name::<App>()?);
    let cause = Some(call.cause(verb));
    let moved = state.store.change_deployments(&name, transition, cause).await?;
    if let Some(moved) = &moved {
        state.caught_up(moved.revision).await;
    }
    let record = state.store.read::<App>(&name).await?;
    let operation = moved.as_ref().and_then(|moved| moved.operation.as_ref());
    call.answer(StatusCode::ACCEPTED, record, operation, App::is_settled).await
}
