//! `/v1/apps/{name}/deployments`, and what can be asked for about them.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use weir_config::{App, AppName, Cause, Ending, decode};

use super::{
    ApiState,
    apps::{shown, stored},
    objects::{Answer, json, named, parse_name, parse_or_default},
    problem::ApiProblem,
    query::Params,
    wait::WaitQuery,
    wire::{
        AppResource, DeployRequest, DeploymentResource, List, ProblemDetails, PromoteRequest,
        RollbackRequest, RolloutPreview,
    },
};
use crate::{
    status::deployments,
    store::{Precondition, Token},
    transition::{ASKED_FOR, Transition, ending},
};

/// An app's deployments that are remembered, the newest first.
#[utoipa::path(get, path = "/v1/apps/{name}/deployments",
    responses((status = 200, body = List<DeploymentResource>),
        (status = 404, body = ProblemDetails)))]
pub(crate) async fn list(State(state): State<ApiState>, Path(name): Path<String>) -> Answer {
    let name: AppName = parse_name(&name)?;
    stored(&state, &name).await?;
    let records = state.store.deployments(&name).await?;
    let items = records.into_iter().map(deployments::resource).collect();
    Ok(Json(List::<DeploymentResource> { items }).into_response())
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
#[utoipa::path(post, path = "/v1/apps/{name}/actions/preview", request_body = weir_config::AppManifest,
    responses((status = 200, body = RolloutPreview), (status = 422, body = ProblemDetails)))]
pub(crate) async fn preview(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let (manifest, app) = App::read(json(&body)?, &state.base_domain)?;
    named(&name, &manifest.name)?;
    let preview =
        deployments::preview(&app, state.world().desired.apps.get(&app.name).map(|a| &**a));
    Ok(Json::<RolloutPreview>(preview).into_response())
}

/// Makes a new deployment: of another image, or of the same one anew.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/deploy", params(WaitQuery),
    request_body = DeployRequest,
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn deploy(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
    body: Bytes,
) -> Answer {
    let request: DeployRequest = parse_or_default(&body)?;
    begin(&state, &token, &parse_name(&name)?, request.image, Cause::Deploy, &query).await
}

/// Makes a new deployment of the spec as it is.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/redeploy", params(WaitQuery),
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn redeploy(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
) -> Answer {
    begin(&state, &token, &parse_name(&name)?, None, Cause::Deploy, &query).await
}

/// Makes a new deployment of exactly the image that another app runs.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/promote", params(WaitQuery),
    request_body = PromoteRequest,
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn promote(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
    body: Bytes,
) -> Answer {
    let request: PromoteRequest = decode(json(&body)?)?;
    let from: AppName = parse_name(&request.from)?;
    let image = image_of(&state, &from).await?;
    begin(&state, &token, &parse_name(&name)?, Some(image), Cause::Promote, &query).await
}

/// The name by which exactly the image of an app's live deployment can be had.
async fn image_of(state: &ApiState, app: &AppName) -> Result<String, ApiProblem> {
    stored(state, app).await?;
    let world = state.world();
    let meant = world.desired.apps.get(app);
    let live = meant.and_then(|meant| Some(meant.instances_of(meant.live()?.number)));
    let is_made = |id: &_| world.observed.container(id).is_some();
    let instance = live.into_iter().flatten().find(is_made).ok_or_else(|| {
        let why = format!("{app} has no live deployment with a container; deploy it first");
        ApiProblem::conflict("not_live", why)
    })?;
    let exact = state.provider.exact_image(&instance).await;
    exact.map_err(|error| ApiProblem::unavailable(&error.to_string()))
}

async fn begin(
    state: &ApiState,
    token: &Token,
    name: &AppName,
    image: Option<String>,
    cause: Cause,
    query: &WaitQuery,
) -> Answer {
    let record = stored(state, name).await?;
    let mut manifest = record.manifest;
    manifest.spec.image = image.or(manifest.spec.image);
    if manifest.spec.image.is_none() {
        let why = format!("{name} has no image to deploy; change what answers it by an apply");
        return Err(ApiProblem::conflict("no_image", why));
    }
    let app = App::from_manifest(&manifest, &state.base_domain)?;
    let unchanged_since = Precondition::Revision(record.meta.revision);
    let written =
        state.store.put_app(&manifest, &app, unchanged_since, Some(cause), &token.id).await?;
    let resource = state.settle(written.record, query, |status| status.phase.is_settled()).await?;
    Ok(shown(StatusCode::ACCEPTED, resource))
}

/// Brings a former deployment back. The spec stays as it is.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/rollback", params(WaitQuery),
    request_body = RollbackRequest,
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn roll_back(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
    body: Bytes,
) -> Answer {
    let request: RollbackRequest = parse_or_default(&body)?;
    let transition = Transition::RollBack { to: request.to, ending: asked_for(&token) };
    change(&state, &token, &parse_name(&name)?, &transition, &query).await
}

/// Calls off the deployment that is on its way. What served before serves on.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/cancel", params(WaitQuery),
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
) -> Answer {
    let transition = Transition::Cancel { ending: asked_for(&token) };
    change(&state, &token, &parse_name(&name)?, &transition, &query).await
}

fn asked_for(token: &Token) -> Ending {
    Ending { message: format!("asked for by {}", token.id), ..ending(ASKED_FOR) }
}

async fn change(
    state: &ApiState,
    token: &Token,
    name: &AppName,
    transition: &Transition,
    query: &WaitQuery,
) -> Answer {
    if let Some(revision) =
        state.store.change_deployments(name, transition, Some(&token.id)).await?
    {
        state.caught_up(revision).await;
    }
    let record = stored(state, name).await?;
    let resource = state.settle(record, query, |status| status.phase.is_settled()).await?;
    Ok(shown(StatusCode::ACCEPTED, resource))
}
