//! `/v1/apps`: what operators want.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_config::{App, AppManifest, AppName, Problem, Problems, SleepLevel, decode};

use super::{
    ApiState,
    problem::ApiProblem,
    query::Params,
    wait::WaitQuery,
    wire::{AppResource, AppStatus, DeployRequest, List, Phase, ProblemDetails, SleepRequest},
};
use crate::{
    event::Event,
    store::{Precondition, StoreError, Token, Written},
};

type Answer = Result<Response, ApiProblem>;

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
    let name = parse_name(&name)?;
    let record = state.store.app(&name).await?.ok_or(StoreError::NoApp(name))?;
    let resource = state.settle(record, &query, |status| status.phase.is_settled()).await?;
    Ok(answer(StatusCode::OK, resource))
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
    if manifest.name != name {
        let message = format!("the path says `{name}`, the object `{}`", manifest.name);
        return Err(Problems(vec![Problem::new("/name", "mismatch", message)]).into());
    }
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
    let Written { app, created, .. } =
        state.store.put_app(manifest, app, precondition, false, &token.id).await?;
    let resource = state.settle(app, query, |status| status.phase.is_settled()).await?;
    Ok(answer(if created { StatusCode::CREATED } else { StatusCode::OK }, resource))
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
    let name = parse_name(&name)?;
    let record = state.store.app(&name).await?.ok_or(StoreError::NoApp(name))?;
    let mut manifest = record.manifest;
    if let Some(image) = request.image {
        manifest.spec.image = image;
    }
    let app = App::from_manifest(&manifest, &state.base_domain)?;
    let unchanged_since = Precondition::Revision(record.revision);
    let written = state.store.put_app(&manifest, &app, unchanged_since, true, &token.id).await?;
    let resource = state.settle(written.app, &query, |status| status.phase.is_settled()).await?;
    Ok(answer(StatusCode::ACCEPTED, resource))
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
    let name = parse_name(&name)?;
    let record = state.store.app(&name).await?.ok_or_else(|| StoreError::NoApp(name.clone()))?;
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
    Ok(answer(StatusCode::ACCEPTED, resource))
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
    let name = parse_name(&name)?;
    let record = state.store.app(&name).await?.ok_or_else(|| StoreError::NoApp(name.clone()))?;
    send(&state, Event::WakeWanted(name)).await?;
    let awake =
        |status: &AppStatus| matches!(status.phase, Phase::Ready | Phase::Degraded | Phase::Failed);
    let resource = state.settle(record, &query, awake).await?;
    Ok(answer(StatusCode::ACCEPTED, resource))
}

async fn send(state: &ApiState, event: Event) -> Result<(), ApiProblem> {
    let sent = state.events.send(event).await;
    sent.map_err(|_| ApiProblem::unavailable("Weir is shutting down"))
}

fn answer(status: StatusCode, resource: AppResource) -> Response {
    let etag = format!("\"{}\"", resource.revision);
    (status, [(header::ETAG, etag)], Json(resource)).into_response()
}

/// `If-None-Match: *` for new ones only, `If-Match: "REVISION"` for unchanged ones only
/// (RFC 9110 section 13.1).
fn precondition(headers: &HeaderMap) -> Result<Precondition, ApiProblem> {
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*") {
        return Ok(Precondition::New);
    }
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(Precondition::None) };
    let revision = value.to_str().ok().and_then(|text| text.trim_matches('"').parse().ok());
    revision.map(Precondition::Revision).ok_or_else(|| {
        let why = "If-Match takes an ETag of this API, such as \"12\"".to_owned();
        ApiProblem::bad_request("bad_etag", why)
    })
}

pub(super) fn parse_name(name: &str) -> Result<AppName, ApiProblem> {
    name.parse().map_err(|why: String| ApiProblem::not_found(&why))
}

fn json(body: &[u8]) -> Result<Value, ApiProblem> {
    serde_json::from_slice(body)
        .map_err(|error| ApiProblem::bad_request("bad_json", format!("not valid JSON: {error}")))
}

fn parse_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiProblem> {
    if body.is_empty() { Ok(T::default()) } else { Ok(decode(json(body)?)?) }
}
