//! `/v1/apps`: what operators want.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use weir_config::{App, AppManifest, AppName, SleepLevel};

use super::{
    ApiState,
    objects::{Answer, answer, json, named, parse_name, parse_or_default, precondition},
    problem::ApiProblem,
    query::Params,
    wait::WaitQuery,
    wire::{AppResource, AppStatus, List, Phase, ProblemDetails, SleepRequest},
};
use crate::{
    event::Event,
    store::{AppRecord, Kind, Precondition, StoreError, Token, Written},
};

/// All apps, by name.
#[utoipa::path(get, path = "/v1/apps", responses((status = 200, body = List<AppResource>)))]
pub(crate) async fn list(State(state): State<ApiState>) -> Answer {
    let records = state.store.apps().await?;
    let world = state.world();
    let items = records.into_iter().map(|record| state.resource(&world, record)).collect();
    Ok(Json(List::<AppResource> { items }).into_response())
}

/// One app.
#[utoipa::path(get, path = "/v1/apps/{name}",
    responses((status = 200, body = AppResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
) -> Answer {
    let name: AppName = parse_name(&name)?;
    let record = stored(&state, &name).await?;
    let resource = state.settle(record, &query, |status| status.phase.is_settled()).await?;
    Ok(shown(StatusCode::OK, resource))
}

/// Makes a new app.
#[utoipa::path(post, path = "/v1/apps", params(WaitQuery), request_body = AppManifest,
    responses((status = 201, body = AppResource), (status = 409, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Params(query): Params<WaitQuery>,
    body: Bytes,
) -> Answer {
    let (manifest, app) = App::read(json(&body)?, &state.base_domain)?;
    write(&state, &token, &query, &manifest, &app, Precondition::New).await
}

/// Makes an app what is written here, new or not.
#[utoipa::path(put, path = "/v1/apps/{name}", params(WaitQuery), request_body = AppManifest,
    responses((status = 200, body = AppResource), (status = 201, body = AppResource),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let (manifest, app) = App::read(json(&body)?, &state.base_domain)?;
    named(&name, &manifest.name)?;
    write(&state, &token, &query, &manifest, &app, precondition(&headers)?).await
}

async fn write(
    state: &ApiState,
    token: &Token,
    query: &WaitQuery,
    manifest: &AppManifest,
    app: &App,
    precondition: Precondition,
) -> Answer {
    let Written { record, created, .. } =
        state.store.put_app(manifest, app, precondition, None, &token.id).await?;
    let resource = state.settle(record, query, |status| status.phase.is_settled()).await?;
    Ok(shown(if created { StatusCode::CREATED } else { StatusCode::OK }, resource))
}

/// Deletes an app. Its requests in flight end, then its containers go.
#[utoipa::path(delete, path = "/v1/apps/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
) -> Answer {
    state.store.delete_app(&parse_name(&name)?, &token.id).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Puts an app to sleep now. Refused while a request is in flight or it is not ready.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/sleep", params(WaitQuery),
    request_body = SleepRequest,
    responses((status = 202, body = AppResource), (status = 409, body = ProblemDetails)))]
pub(crate) async fn sleep(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
    body: Bytes,
) -> Answer {
    let request: SleepRequest = parse_or_default(&body)?;
    let level = request.level.unwrap_or(SleepLevel::Paused);
    let name: AppName = parse_name(&name)?;
    let record = stored(&state, &name).await?;
    if record.manifest.spec.image.is_none() {
        let why = format!("{name} cannot sleep: it has no containers of its own");
        return Err(ApiProblem::conflict("cannot_sleep", why));
    }
    let status = state.resource(&state.world(), record.clone()).status;
    if let Some(why) = cannot_sleep(&status) {
        return Err(ApiProblem::conflict(
            "cannot_sleep",
            format!("{name} cannot sleep now: {why}"),
        ));
    }
    send(&state, Event::SleepWanted(name, level)).await?;
    let asleep = |status: &AppStatus| matches!(status.phase, Phase::Paused | Phase::Stopped);
    let resource = state.settle(record, &query, asleep).await?;
    Ok(shown(StatusCode::ACCEPTED, resource))
}

fn cannot_sleep(status: &AppStatus) -> Option<String> {
    match (status.phase, status.requests_in_flight) {
        (Phase::Ready | Phase::Paused | Phase::Stopped, 0) => None,
        (Phase::Ready | Phase::Paused | Phase::Stopped, 1) => {
            Some("a request is in flight".to_owned())
        }
        (Phase::Ready | Phase::Paused | Phase::Stopped, n) => {
            Some(format!("{n} requests are in flight"))
        }
        (phase, _) => Some(format!("it is {}", phase.as_str())),
    }
}

/// Wakes an app.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/wake", params(WaitQuery),
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn wake(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
) -> Answer {
    let name: AppName = parse_name(&name)?;
    let record = stored(&state, &name).await?;
    send(&state, Event::WakeWanted(name)).await?;
    let awake =
        |status: &AppStatus| matches!(status.phase, Phase::Ready | Phase::Degraded | Phase::Failed);
    let resource = state.settle(record, &query, awake).await?;
    Ok(shown(StatusCode::ACCEPTED, resource))
}

pub(super) async fn stored(state: &ApiState, name: &AppName) -> Result<AppRecord, StoreError> {
    let record = state.store.app(name).await?;
    record.ok_or_else(|| StoreError::not_found(Kind::App, name))
}

async fn send(state: &ApiState, event: Event) -> Result<(), ApiProblem> {
    let sent = state.events.send(event).await;
    sent.map_err(|_| ApiProblem::unavailable("Weir is shutting down"))
}

pub(super) fn shown(status: StatusCode, resource: AppResource) -> Response {
    answer(status, resource.revision, resource)
}
