//! `/v1/operations`: what was asked for and what came of it; `/v1/audit`: who changed what.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use weir_config::Moment;

use super::{
    ApiState,
    call::{Answer, Call},
    problem::ApiProblem,
    query::{Params, page},
    wait::WaitQuery,
    wire::{AuditRecord, List, OperationResource, ProblemDetails, UpdatedAppResource},
};
use crate::{
    reconciler::World,
    rolling_update::{Progress, progress, summary},
    store::{Operation, OperationFilter, UpdatedApp, Verb},
    time::rfc3339,
};

/// Operations shown at once when nothing else is asked for.
const DEFAULT_LIMIT: u32 = 100;
pub(super) const HEADER: HeaderName = HeaderName::from_static("weir-operation");
const PREFIX: &str = "op_";

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperationsQuery {
    /// Only those on objects of this kind, as `App`.
    kind: Option<String>,
    /// Only those on objects of this name.
    name: Option<String>,
    /// Only those that this token asked for.
    actor: Option<String>,
    /// At most so many, up to 1000; 100 when left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Operations, the newest first. They are kept for 90 days, and 100,000 of them.
#[utoipa::path(get, path = "/v1/operations", params(OperationsQuery),
    responses((status = 200, body = List<OperationResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<OperationsQuery>,
) -> Answer {
    Ok(Json(select(&state, query, show).await?).into_response())
}

/// One operation.
#[utoipa::path(get, path = "/v1/operations/{id}", params(WaitQuery),
    responses((status = 200, body = OperationResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Params(query): Params<WaitQuery>,
) -> Answer {
    let found = match number(&id) {
        Some(number) => state.settled_operation(number, query.limit()?).await?,
        None => None,
    };
    let found = found.ok_or_else(|| no_operation(&id))?;
    Ok(Json(state.operation_shown(&found).await?).into_response())
}

/// Calls off an operation that goes on by itself: a rolling update of a shard, or a converge. What
/// it has begun comes to its end.
#[utoipa::path(post, path = "/v1/operations/{id}/actions/cancel",
    responses((status = 200, body = OperationResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn cancel(Path(id): Path<String>, call: Call) -> Answer {
    let (state, number) = (&call.state, number(&id));
    let found = match number {
        Some(number) => state.store.operation(number).await?,
        None => None,
    };
    let found = found.ok_or_else(|| no_operation(&id))?;
    let done = state.store.cancel_operation(&found, call.cause(Verb::Cancel)).await?;
    let cancelled = state.store.operation(found.number).await?.unwrap_or(found);
    let shown = Json(state.operation_shown(&cancelled).await?);
    Ok(with_operation(shown.into_response(), Some(&done)))
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix(PREFIX)?.parse().ok()
}

fn no_operation(id: &str) -> ApiProblem {
    ApiProblem::not_found(&format!("there is no operation `{id}`"))
}

/// Every change and action, with the spec before and after, the newest first. Kept for 90 days.
#[utoipa::path(get, path = "/v1/audit", params(OperationsQuery),
    responses((status = 200, body = List<AuditRecord>)))]
pub(crate) async fn audit(
    State(state): State<ApiState>,
    Params(query): Params<OperationsQuery>,
) -> Answer {
    Ok(Json(select(&state, query, audited).await?).into_response())
}

async fn select<T>(
    state: &ApiState,
    query: OperationsQuery,
    show: impl Fn(&Operation) -> T,
) -> Result<List<T>, ApiProblem> {
    let OperationsQuery { kind, name, actor, limit, cursor } = query;
    let page = page(limit.or(Some(DEFAULT_LIMIT)), cursor.as_deref())?;
    let filter = OperationFilter { kind, name, actor };
    let found = state.store.operations(&filter, &page).await?;
    let next_cursor = page.next(&found, |last| last.number.to_string());
    Ok(List { items: found.iter().map(show).collect(), next_cursor, revision: None })
}

fn audited(operation: &Operation) -> AuditRecord {
    let spec = |text: &Option<String>| serde_json::from_str(text.as_deref()?).ok();
    AuditRecord {
        id: id(operation),
        at: rfc3339(operation.at),
        actor: operation.actor.clone(),
        verb: operation.verb.clone(),
        kind: operation.target.kind.clone(),
        name: operation.target.name.clone(),
        revision: operation.revision,
        before: spec(&operation.before),
        after: spec(&operation.after),
    }
}

impl ApiState {
    /// An operation, with a `limit` once it is settled or the time is up. What is told of it is
    /// what is noted, so that it holds after a crash.
    pub(super) async fn settled_operation(
        &self,
        number: u64,
        limit: Option<Duration>,
    ) -> Result<Option<Operation>, ApiProblem> {
        let deadline = Instant::now() + limit.unwrap_or_default();
        let mut changed = self.store.operations_changed();
        loop {
            let found = self.store.operation(number).await?;
            if found.as_ref().is_none_or(|operation| operation.outcome.is_some())
                || timeout_at(deadline, changed.changed()).await.is_err()
            {
                return Ok(found);
            }
        }
    }
}

impl ApiState {
    /// An operation with how far it is; of a rolling update with its apps.
    pub(super) async fn operation_shown(
        &self,
        operation: &Operation,
    ) -> Result<OperationResource, ApiProblem> {
        let mut shown = show(operation);
        let (world, now) = (self.world(), Moment::now());
        if let Some(update) = self.store.rolling_update(operation.number).await? {
            shown.apps = update.apps.iter().map(|app| updated_app(app, &world, now)).collect();
            if operation.outcome.is_none() {
                shown.message = summary(&update, &world, now);
            }
        }
        Ok(shown)
    }
}

fn updated_app(updated: &UpdatedApp, world: &World, now: Moment) -> UpdatedAppResource {
    let (state, message) = match progress(updated, world, now) {
        Progress::Waiting => ("waiting", String::new()),
        Progress::UnderWay => ("running", String::new()),
        Progress::Done => ("done", String::new()),
        Progress::Failed(why) => ("failed", why),
        Progress::Skipped(why) => ("skipped", why),
    };
    let (app, state) = (updated.app.to_string(), state.to_owned());
    UpdatedAppResource { app, deployment: updated.deployment, state, message }
}

fn show(operation: &Operation) -> OperationResource {
    let (target, outcome) = (operation.target.clone(), operation.outcome.as_ref());
    let state = outcome.map_or("running", |outcome| outcome.state.as_str());
    OperationResource {
        id: id(operation),
        kind: target.kind,
        name: target.name,
        generation: target.generation,
        deployment: target.deployment,
        verb: operation.verb.clone(),
        actor: operation.actor.clone(),
        state: state.to_owned(),
        created_at: rfc3339(operation.at),
        settled_at: outcome.map(|outcome| rfc3339(outcome.at)),
        message: outcome.map(|outcome| outcome.message.clone()).unwrap_or_default(),
        apps: Vec::new(),
    }
}

/// Says in an answer which operation it is about, and of one that goes on where to look.
pub(super) fn with_operation(mut answer: Response, operation: Option<&Operation>) -> Response {
    let Some(operation) = operation else { return answer };
    let is_accepted = answer.status() == StatusCode::ACCEPTED;
    let headers = answer.headers_mut();
    let id = id(operation);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/operations/{id}"))
        && is_accepted
    {
        headers.insert(header::LOCATION, location);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(HEADER, id);
    }
    answer
}

/// The answer to a request that was done by this operation, and whose own answer is not known.
pub(super) async fn answer_done(state: &ApiState, number: u64) -> Response {
    match state.store.operation(number).await {
        Ok(Some(operation)) => {
            let resource = Json(show(&operation));
            with_operation((StatusCode::ACCEPTED, resource).into_response(), Some(&operation))
        }
        Ok(None) => ApiProblem::not_found("what this did is no longer known").into_response(),
        Err(error) => ApiProblem::from(error).into_response(),
    }
}

fn id(operation: &Operation) -> String {
    format!("{PREFIX}{}", operation.number)
}
