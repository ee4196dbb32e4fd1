//! What reading and writing objects of every kind have in common.

use std::str::FromStr;

use axum::{
    Json,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use weir_config::{Problem, Problems, decode};

use super::problem::ApiProblem;
use crate::store::Precondition;

pub(super) type Answer = Result<Response, ApiProblem>;

/// An object with its revision as the `ETag`.
pub(super) fn answer(status: StatusCode, revision: u64, resource: impl Serialize) -> Response {
    (status, [(header::ETAG, format!("\"{revision}\""))], Json(resource)).into_response()
}

/// `If-None-Match: *` for new ones only, `If-Match: "REVISION"` for unchanged ones only
/// (RFC 9110 section 13.1).
pub(super) fn precondition(headers: &HeaderMap) -> Result<Precondition, ApiProblem> {
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

/// The name in a path; what cannot be a name is not there.
pub(super) fn parse_name<T: FromStr<Err = String>>(name: &str) -> Result<T, ApiProblem> {
    name.parse().map_err(|why: String| ApiProblem::not_found(&why))
}

/// Refuses an object under another name than its own.
pub(super) fn named(path: &str, object: &str) -> Result<(), Problems> {
    if path == object {
        return Ok(());
    }
    let message = format!("the path says `{path}`, the object `{object}`");
    Err(Problems(vec![Problem::new("/name", "mismatch", message)]))
}

pub(super) fn json(body: &[u8]) -> Result<Value, ApiProblem> {
    serde_json::from_slice(body)
        .map_err(|error| ApiProblem::bad_request("bad_json", format!("not valid JSON: {error}")))
}

pub(super) fn parse_or_default<T: DeserializeOwned + Default>(
    body: &[u8],
) -> Result<T, ApiProblem> {
    if body.is_empty() { Ok(T::default()) } else { Ok(decode(json(body)?)?) }
}
