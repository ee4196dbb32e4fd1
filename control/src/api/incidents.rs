//! `/v1/incidents`: what is wrong, and what was.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
};
use serde::Deserialize;
use weir_config::decode;

use super::{
    ApiState,
    call::json,
    problem::ApiProblem,
    query::Params,
    wire::{
        IncidentDetails, IncidentEventResource, IncidentResource, List, NoteRequest, ProblemDetails,
    },
};
use crate::{
    store::{IncidentAction, IncidentEvent, IncidentQuery, IncidentRecord, Token},
    time::rfc3339,
};

const DEFAULT_LIMIT: i64 = 100;
const MOST: i64 = 1000;
/// Of a note, in bytes.
const LONGEST_NOTE: usize = 10_000;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct IncidentsQuery {
    /// `open` or `resolved`; both when left out.
    state: Option<String>,
    /// Of one object only, as `App/shop`.
    subject: Option<String>,
    /// At most so many, 1 to 1000; 100 when left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Incidents, the newest first.
#[utoipa::path(get, path = "/v1/incidents", params(IncidentsQuery),
    responses((status = 200, body = List<IncidentResource>), (status = 400, body = ProblemDetails)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<IncidentsQuery>,
) -> Result<Json<List<IncidentResource>>, ApiProblem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        let why = format!("limit is 1 to {MOST}");
        return Err(ApiProblem::bad_request("bad_limit", why));
    }
    let is_open = match query.state.as_deref() {
        None => None,
        Some("open") => Some(true),
        Some("resolved") => Some(false),
        Some(_) => {
            let why = "state is `open` or `resolved`".to_owned();
            return Err(ApiProblem::bad_request("bad_state", why));
        }
    };
    let after = query.cursor.as_deref().map(cursor).transpose()?;
    let query = IncidentQuery { is_open, subject: query.subject, after, limit };
    let found = state.store.incidents(&query).await?;
    let last = found.last().filter(|_| found.len() as i64 == limit);
    let next_cursor = last.map(|last| format!("{}.{}", last.opened_at, last.id));
    let items = found.iter().map(shown).collect();
    Ok(Json(List { items, next_cursor, revision: None }))
}

fn cursor(text: &str) -> Result<(i64, String), ApiProblem> {
    let parts = text.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
    parts.ok_or_else(|| {
        let why = "this cursor is not of this list; use `next_cursor` as it was told".to_owned();
        ApiProblem::bad_request("bad_cursor", why)
    })
}

/// One incident with everything that has come of it.
#[utoipa::path(get, path = "/v1/incidents/{id}",
    responses((status = 200, body = IncidentDetails), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<IncidentDetails>, ApiProblem> {
    let found = state.store.incident(&id).await?;
    let (incident, events) = found.ok_or_else(|| no_incident(&id))?;
    let events = events.into_iter().map(event).collect();
    Ok(Json(IncidentDetails { incident: shown(&incident), events }))
}

/// Says that somebody looks after it.
#[utoipa::path(post, path = "/v1/incidents/{id}/actions/acknowledge",
    responses((status = 200, body = IncidentResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn acknowledge(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(id): Path<String>,
) -> Result<Json<IncidentResource>, ApiProblem> {
    act(&state, &id, IncidentAction::Acknowledge, &token).await
}

/// Ends it. If its cause is still there, it is opened again.
#[utoipa::path(post, path = "/v1/incidents/{id}/actions/resolve",
    responses((status = 200, body = IncidentResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn resolve(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(id): Path<String>,
) -> Result<Json<IncidentResource>, ApiProblem> {
    let resolved = act(&state, &id, IncidentAction::Resolve, &token).await;
    state.incidents_changed.notify_one();
    resolved
}

/// Adds a line to its record.
#[utoipa::path(post, path = "/v1/incidents/{id}/actions/note", request_body = NoteRequest,
    responses((status = 200, body = IncidentResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn note(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<IncidentResource>, ApiProblem> {
    let NoteRequest { text } = decode(json(&body)?)?;
    if text.trim().is_empty() || text.len() > LONGEST_NOTE {
        let why = format!("`text` is a note of 1 to {LONGEST_NOTE} bytes");
        return Err(ApiProblem::bad_request("bad_note", why));
    }
    act(&state, &id, IncidentAction::Note(text), &token).await
}

async fn act(
    state: &ApiState,
    id: &str,
    action: IncidentAction,
    token: &Token,
) -> Result<Json<IncidentResource>, ApiProblem> {
    let incident = state.store.act_on_incident(id, &action, &token.id).await?;
    incident.map(|incident| Json(shown(&incident))).ok_or_else(|| no_incident(id))
}

fn no_incident(id: &str) -> ApiProblem {
    ApiProblem::not_found(&format!("there is no incident `{id}`"))
}

pub(super) fn shown(record: &IncidentRecord) -> IncidentResource {
    IncidentResource {
        id: record.id.clone(),
        rule: record.rule.clone(),
        subject: record.subject.clone(),
        severity: record.severity,
        title: record.title.clone(),
        detail: record.detail.clone(),
        state: if record.is_open { "open" } else { "resolved" }.to_owned(),
        occurrences: record.occurrences,
        opened_at: rfc3339(record.opened_at),
        updated_at: rfc3339(record.updated_at),
        resolved_at: record.resolved_at.map(rfc3339),
        acknowledged_by: record.acknowledged_by.clone(),
        acknowledged_at: record.acknowledged_at.map(rfc3339),
    }
}

fn event(event: IncidentEvent) -> IncidentEventResource {
    let IncidentEvent { number, at, actor, action, detail } = event;
    IncidentEventResource { number, at: rfc3339(at), actor, action, detail }
}
