//! `/v1/notifiers`: who is told of incidents.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use weir_config::{NotifierFormat, NotifierManifest, NotifierSpec, Problem, Problems};

use super::{
    ApiState,
    call::json,
    problem::ApiProblem,
    wire::{List, NotifierResource, NotifierStatus, NotifierTest, ProblemDetails},
};
use crate::{
    notifications::Courier,
    store::{IncidentRecord, NotifierRecord, body},
    time::{rfc3339, unix_millis},
};

const MOST: usize = 50;

/// All notifiers, by name.
#[utoipa::path(get, path = "/v1/notifiers",
    responses((status = 200, body = List<NotifierResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
) -> Result<Json<List<NotifierResource>>, ApiProblem> {
    let items = state.store.notifiers().await?.into_iter().map(shown).collect();
    Ok(Json(List::whole(items)))
}

/// One notifier, without its secret.
#[utoipa::path(get, path = "/v1/notifiers/{name}",
    responses((status = 200, body = NotifierResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<NotifierResource>, ApiProblem> {
    Ok(Json(shown(stored(&state, &name).await?)))
}

/// Makes a notifier what is written here, new or not. Without a secret it keeps the one it has.
#[utoipa::path(put, path = "/v1/notifiers/{name}", request_body = NotifierManifest,
    responses((status = 200, body = NotifierResource), (status = 201, body = NotifierResource),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(
    State(state): State<ApiState>,
    Path(path): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<NotifierResource>), ApiProblem> {
    let (manifest, name) = NotifierManifest::read(json(&body)?)?;
    if path != manifest.name {
        let message = format!("the path says `{path}`, the object `{}`", manifest.name);
        return Err(Problems(vec![Problem::new("/name", "mismatch", message)]).into());
    }
    let all = state.store.notifiers().await?;
    let former = all.iter().find(|notifier| notifier.name == name);
    if former.is_none() && all.len() >= MOST {
        let why = format!("there are {MOST} notifiers already; delete one first");
        return Err(ApiProblem::conflict("too_many", why));
    }
    let has_secret =
        manifest.spec.secret.is_some() || former.is_some_and(|former| former.spec.secret.is_some());
    if manifest.spec.format == NotifierFormat::Standard && !has_secret {
        let message = "messages of the standard format are signed: write a secret";
        return Err(Problems(vec![Problem::new("/spec/secret", "required", message)]).into());
    }
    let is_new = state.store.put_notifier(&name, &manifest.spec).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(shown(stored(&state, &name).await?))))
}

/// Deletes a notifier, and what is on its way to it.
#[utoipa::path(delete, path = "/v1/notifiers/{name}",
    responses((status = 204), (status = 404, body = ProblemDetails)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiProblem> {
    match state.store.delete_notifier(&name).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_notifier(&name)),
    }
}

/// Sends a test message now, once.
#[utoipa::path(post, path = "/v1/notifiers/{name}/actions/test",
    responses((status = 200, body = NotifierTest), (status = 404, body = ProblemDetails)))]
pub(crate) async fn test(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<NotifierTest>, ApiProblem> {
    let notifier = stored(&state, &name).await?;
    let (id, now) = (format!("msg_{}", crate::random::hex(16)), unix_millis());
    let body = body("notifier.test", &an_incident(now), now).to_string();
    let sent = Courier::new().deliver(&notifier.spec, &id, &body).await;
    Ok(Json(NotifierTest { id, delivered: sent.is_ok(), error: sent.err() }))
}

fn an_incident(now: i64) -> IncidentRecord {
    IncidentRecord {
        id: "inc-test".to_owned(),
        rule: "test".to_owned(),
        subject: "Notifier/test".to_owned(),
        severity: weir_config::Severity::Warning,
        title: "this is a test".to_owned(),
        detail: "somebody asked for it; nothing is wrong".to_owned(),
        is_open: false,
        occurrences: 1,
        opened_at: now,
        updated_at: now,
        resolved_at: Some(now),
        acknowledged_by: None,
        acknowledged_at: None,
    }
}

async fn stored(state: &ApiState, name: &str) -> Result<NotifierRecord, ApiProblem> {
    state.store.notifier(name).await?.ok_or_else(|| no_notifier(name))
}

fn no_notifier(name: &str) -> ApiProblem {
    ApiProblem::not_found(&format!("there is no notifier `{name}`"))
}

fn shown(record: NotifierRecord) -> NotifierResource {
    let NotifierRecord { name, spec, queued, last_error, created_at, updated_at } = record;
    let has_secret = spec.secret.is_some();
    let url = shown_url(&spec.url, spec.format);
    NotifierResource {
        kind: "Notifier".to_owned(),
        name: name.to_string(),
        created_at: rfc3339(created_at),
        updated_at: rfc3339(updated_at),
        spec: NotifierSpec { url, secret: None, ..spec },
        status: NotifierStatus { has_secret, queued, last_error },
    }
}

/// The URL without what may be a secret: of Slack's the path is one, of others' what is before an
/// `@` or behind a `?`.
fn shown_url(url: &str, format: NotifierFormat) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    match (format, path.split_once('?')) {
        (NotifierFormat::Slack, _) => format!("{scheme}://{host}/…"),
        (NotifierFormat::Standard, Some((path, _))) => format!("{scheme}://{host}{path}?…"),
        (NotifierFormat::Standard, None) => format!("{scheme}://{host}{path}"),
    }
}
