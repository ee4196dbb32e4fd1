//! `/v1/notifiers`: who is told of incidents.

use axum::{Json, extract::State, response::IntoResponse};
use weir_config::{NotifierManifest, NotifierName, NotifierSpec, Severity};

use super::{
    ApiState,
    call::{Answer, Call, Shown},
    problem::ApiProblem,
    query::{PageQuery, Params},
    wire::{HiddenChanges, List, NotifierResource, NotifierStatus, NotifierTest, ProblemDetails},
};
use crate::{
    notifications::Courier,
    reconciler::World,
    store::{IncidentRecord, Kind, Notifier, Record, SealedNotifier, StoreError, Verb, body},
    time::unix_millis,
};

impl Shown for Notifier {
    type Status = NotifierStatus;

    fn status(record: &Record<Self>, _: &ApiState, _: &World) -> Option<NotifierStatus> {
        Some(Self::unseen(record))
    }

    /// The loop has nothing to do with it.
    fn unseen(record: &Record<Self>) -> NotifierStatus {
        let SealedNotifier { has_secret, queued, last_error, .. } = record.extra.clone();
        NotifierStatus { has_secret, queued, last_error }
    }

    fn is_settled(_: &NotifierStatus) -> bool {
        true
    }
}

/// All notifiers, by name, without what is secret.
#[utoipa::path(get, path = "/v1/notifiers", params(PageQuery),
    responses((status = 200, body = List<NotifierResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Answer {
    state.list::<Notifier>(&query).await
}

/// One notifier, without what is secret.
#[utoipa::path(get, path = "/v1/notifiers/{name}",
    responses((status = 200, body = NotifierResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(call: Call) -> Answer {
    call.read::<Notifier>().await
}

/// Makes a notifier what is written here, new or not. Without a secret it keeps the one it has.
#[utoipa::path(put, path = "/v1/notifiers/{name}", request_body = NotifierManifest,
    responses((status = 200, body = NotifierResource), (status = 201, body = NotifierResource),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(call: Call) -> Answer {
    let (name, spec) = written(&call)?;
    let (precondition, cause) = (call.precondition()?, call.cause(Verb::Put));
    let written = call.state.vault.put_notifier(&name, spec, precondition, cause).await?;
    call.answer_written(written).await
}

/// What writing a notifier would change of what is not shown; nothing is changed.
#[utoipa::path(post, path = "/v1/notifiers/{name}/actions/preview",
    request_body = NotifierManifest,
    responses((status = 200, body = HiddenChanges), (status = 422, body = ProblemDetails)))]
pub(crate) async fn preview(call: Call) -> Answer {
    let (name, spec) = written(&call)?;
    let changes = call.state.vault.hidden_changes_of_notifier(&name, spec).await?;
    Ok(Json(HiddenChanges::of(changes)).into_response())
}

fn written(call: &Call) -> Result<(NotifierName, NotifierSpec), ApiProblem> {
    let (manifest, name) = NotifierManifest::read(call.json()?)?;
    call.is_named(&name)?;
    Ok((name, manifest.spec))
}

/// Deletes a notifier, and what is on its way to it.
#[utoipa::path(delete, path = "/v1/notifiers/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    call.delete::<Notifier>().await
}

/// Sends a test message now, once.
#[utoipa::path(post, path = "/v1/notifiers/{name}/actions/test",
    responses((status = 200, body = NotifierTest), (status = 404, body = ProblemDetails)))]
pub(crate) async fn test(call: Call) -> Answer {
    let name = call.name::<Notifier>()?;
    let spec = call.state.vault.notifier(&name).await?;
    let spec = spec.ok_or_else(|| StoreError::not_found(Kind::Notifier, &name))?;
    let (id, now) = (format!("msg_{}", crate::random::hex(16)), unix_millis());
    let body = body("notifier.test", &an_incident(now), now).to_string();
    let sent = Courier::new().deliver(&spec, &id, &body).await;
    let test = NotifierTest { id, delivered: sent.is_ok(), error: sent.err() };
    Ok(Json(test).into_response())
}

fn an_incident(now: i64) -> IncidentRecord {
    IncidentRecord {
        id: "inc-test".to_owned(),
        rule: "test".to_owned(),
        subject: "Notifier/test".to_owned(),
        severity: Severity::Warning,
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
