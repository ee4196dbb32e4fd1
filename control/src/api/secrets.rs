//! `/v1/apps/NAME/secrets`: values that go in and never come out.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use weir_config::{App, AppName, Problem, Problems, Secret, SecretName};
use zeroize::Zeroizing;

use super::{
    ApiState,
    call::{Answer, Call, Shown, parse_name},
    operations::with_operation,
    problem::ApiProblem,
    wait::WaitQuery,
    wire::{KeyRotation, List, ProblemDetails, SecretResource, SecretValue},
};
use crate::{
    certificates::Command,
    store::{Kind, SecretRecord, StoreError, Verb},
    time::rfc3339,
};

type Changes = BTreeMap<SecretName, Option<Secret>>;

/// The secrets of an app: their names and versions, never their values.
#[utoipa::path(get, path = "/v1/apps/{name}/secrets",
    responses((status = 200, body = List<SecretResource>), (status = 404, body = ProblemDetails)))]
pub(crate) async fn list(State(state): State<ApiState>, Path(name): Path<String>) -> Answer {
    let name: AppName = parse_name(&name)?;
    let secrets = state.store.secrets(&name).await?;
    if secrets.is_empty() && state.store.find::<App>(&name).await?.is_none() {
        return Err(StoreError::not_found(Kind::App, &name).into());
    }
    Ok(shown(secrets))
}

/// Sets and removes several secrets in one deployment: an object of `NAME: "value"` and
/// `NAME: null`. An app that is not there yet gets them when it is made.
#[utoipa::path(patch, path = "/v1/apps/{name}/secrets", params(WaitQuery),
    request_body = BTreeMap<String, Option<String>>,
    responses((status = 200, body = List<SecretResource>), (status = 409, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn patch(call: Call) -> Answer {
    let Value::Object(written) = call.json()? else { return Err(not_an_object()) };
    let mut problems = Problems::default();
    let mut changes = Changes::new();
    for (key, value) in written {
        let pointer = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
        let name = problems.take(&pointer, "bad_name", key.parse::<SecretName>());
        let value = problems.take(&pointer, "bad_value", text_or_null(value));
        changes.extend(name.zip(value));
    }
    write(&call, &problems.or_value(changes)?).await
}

/// Sets a secret: to the body, or of a JSON body to its `value`.
#[utoipa::path(put, path = "/v1/apps/{name}/secrets/{key}", params(WaitQuery),
    request_body(content((SecretValue = "application/json"), (String = "text/plain"))),
    responses((status = 200, body = List<SecretResource>), (status = 409, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(Path((_app, key)): Path<(String, String)>, call: Call) -> Answer {
    let content_type = call.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let (pointer, value) = if content_type.is_some_and(|v| v.starts_with("application/json")) {
        let Value::Object(mut written) = call.json()? else { return Err(not_an_object()) };
        let value = text_or_null(written.remove("value").unwrap_or_default());
        ("/value", value.and_then(|value| value.ok_or_else(|| "write a text".to_owned())))
    } else {
        let text = str::from_utf8(&call.body).map_err(|_| "it is not UTF-8".to_owned());
        ("", text.and_then(|text| Secret::new(Zeroizing::new(text.to_owned()))))
    };
    let mut problems = Problems::default();
    let key = problems.take("/key", "bad_name", key.parse::<SecretName>());
    let value = problems.take(pointer, "bad_value", value);
    let changes = key.zip(value).map(|(key, value)| (key, Some(value))).into_iter().collect();
    write(&call, &problems.or_value(changes)?).await
}

/// Removes a secret. A deployment that is kept for a rollback keeps its value.
#[utoipa::path(delete, path = "/v1/apps/{name}/secrets/{key}", params(WaitQuery),
    responses((status = 200, body = List<SecretResource>), (status = 404, body = ProblemDetails)))]
pub(crate) async fn delete(Path((_app, key)): Path<(String, String)>, call: Call) -> Answer {
    let (app, key): (AppName, SecretName) = (call.name::<App>()?, parse_name(&key)?);
    if !call.state.store.secrets(&app).await?.iter().any(|secret| secret.name == key) {
        return Err(ApiProblem::not_found(&format!("{app} has no secret `{key}`")));
    }
    write(&call, &Changes::from([(key, None)])).await
}

/// Makes a new key and seals every secret with it, while everything goes on.
#[utoipa::path(post, path = "/v1/secrets/actions/rotate-key",
    responses((status = 200, body = KeyRotation), (status = 409, body = ProblemDetails)))]
pub(crate) async fn rotate_key(call: Call) -> Answer {
    let rotated = call.state.vault.rotate(call.cause(Verb::RotateKey)).await?;
    // What is kept of certificates for the next start is sealed anew too.
    if call.state.keeper.send(Command::KeysRotated).await.is_err() {
        return Err(ApiProblem::unavailable("the process is about to end"));
    }
    let unreadable = rotated.unreadable.into_iter().collect();
    let rotation = KeyRotation { key: rotated.key, resealed: rotated.resealed, unreadable };
    Ok(with_operation(Json(rotation).into_response(), rotated.operation.as_ref()))
}

async fn write(call: &Call, changes: &Changes) -> Answer {
    let (name, limit) = (call.name::<App>()?, call.wait.limit()?);
    let written = call.state.vault.set(&name, changes, &call.token.id).await;
    let written = written.map_err(|error| match error {
        // Here it is the secret that is too much.
        StoreError::SecretIsVariable(ref name) => {
            let message = error.to_string();
            Problems(vec![Problem::new(format!("/{name}"), "conflict", message)]).into()
        }
        error => ApiProblem::from(error),
    })?;
    if let Some(app) = written.app {
        call.state.settle(app, limit, App::is_settled).await?;
    }
    Ok(shown(written.secrets))
}

/// Serde's own words for what is not a text would tell what it is.
fn text_or_null(value: Value) -> Result<Option<Secret>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Secret::new(Zeroizing::new(text)).map(Some),
        _ => Err("write a text, or null to remove it".to_owned()),
    }
}

fn not_an_object() -> ApiProblem {
    let why = "write a JSON object, such as {\"DATABASE_URL\": \"postgres://…\"}".to_owned();
    ApiProblem::bad_request("bad_json", why)
}

fn shown(secrets: Vec<SecretRecord>) -> Response {
    let resource = |SecretRecord { name, version, written_at }| SecretResource {
        name: name.to_string(),
        version,
        updated_at: rfc3339(written_at),
    };
    Json(List::whole(secrets.into_iter().map(resource).collect())).into_response()
}
