//! `Idempotency-Key`: a request that may be sent again, and is done once
//! (draft-ietf-httpapi-idempotency-key-header).

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{ApiState, MAX_BODY, operations::answer_done, problem::ApiProblem};
use crate::{
    store::{KeptAnswer, Known, Repeatable, Token},
    token,
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const MAX_KEY: usize = 255;
/// The headers of an answer that belong to it, and not to the connection.
const KEPT_HEADERS: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::ETAG, header::LOCATION, super::operations::HEADER];

/// The key of a request, for those who do what it asks for.
#[derive(Clone, Debug)]
pub(super) struct IdempotencyKey(pub(super) String);

/// Does a request with a key once, and answers it again as it was answered.
pub(super) async fn once(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let is_repeatable = is_repeatable(request.method(), request.uri().path());
    let key = request.headers().get(KEY).filter(|_| is_repeatable).cloned();
    let token = request.extensions().get::<Token>().cloned();
    let (Some(key), Some(token)) = (key, token) else { return next.run(request).await };
    match repeatable(&key, token, request).await {
        // Also if the client goes away: what is begun is done, and its answer kept.
        Ok((request, again)) => {
            let done = tokio::spawn(run(state.clone(), request, again.clone(), next)).await;
            match done {
                Ok(answer) => answer,
                Err(panic) => {
                    keep_answer(&state, &again, None).await;
                    ApiProblem::internal(&panic).into_response()
                }
            }
        }
        Err(problem) => problem.into_response(),
    }
}

/// Whether the answer to a request may be kept, and a hash of what it says. To set a secret twice is
/// to set it once, and short ones can be guessed by their hash. An invitation is told once, and only
/// its hash is kept; one that nobody uses expires.
fn is_repeatable(method: &Method, path: &str) -> bool {
    let is_change = matches!(*method, Method::POST | Method::PUT | Method::DELETE);
    let is_secret = path.contains("/secrets")
        || path.starts_with("/v1/notifiers/")
        || path.starts_with("/v1/issuers/")
        || path == "/v1/devices/actions/invite";
    is_change && !is_secret
}

/// The request, and what tells that it is the same one.
async fn repeatable(
    key: &HeaderValue,
    token: Token,
    request: Request,
) -> Result<(Request, Repeatable), ApiProblem> {
    let key = key.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len()));
    let key = key.map(str::to_owned).ok_or_else(|| {
        let why = format!("an Idempotency-Key has 1 to {MAX_KEY} visible characters");
        ApiProblem::bad_request("bad_idempotency_key", why)
    })?;
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.map_err(|error| {
        let (status, title) = (StatusCode::PAYLOAD_TOO_LARGE, "The body cannot be read");
        ApiProblem::new(status, "bad_body", title, error.to_string())
    })?;
    let preconditions =
        [header::IF_MATCH, header::IF_NONE_MATCH].map(|name| parts.headers.get(name));
    let text = format!(
        "{} {} {:?}\n{}",
        parts.method,
        parts.uri,
        preconditions,
        String::from_utf8_lossy(&body)
    );
    let fingerprint = token::hash(&text);
    parts.extensions.insert(IdempotencyKey(key.clone()));
    let request = Request::from_parts(parts, Body::from(body));
    Ok((request, Repeatable { actor: token.id, key, fingerprint }))
}

async fn run(state: ApiState, request: Request, again: Repeatable, next: Next) -> Response {
    let known = match state.store.repeatable(&again).await {
        Ok(known) => known,
        Err(error) => return ApiProblem::from(error).into_response(),
    };
    match known {
        Known::New => {}
        Known::UnderWay => {
            let why = "the same request is under way; ask again in a moment".to_owned();
            return ApiProblem::conflict("idempotency_in_progress", why).into_response();
        }
        Known::Other => {
            let why = "this Idempotency-Key was used for another request; choose a new one";
            let (status, title) =
                (StatusCode::UNPROCESSABLE_ENTITY, "The key is another request's");
            let code = "idempotency_key_reused";
            return ApiProblem::new(status, code, title, why.to_owned()).into_response();
        }
        Known::Answered(kept) => return replayed(kept),
        Known::Done { operation } => return mark(answer_done(&state, operation).await),
    }
    let (parts, body) = next.run(request).await.into_parts();
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => return ApiProblem::internal(&error).into_response(),
    };
    // What failed here may succeed another time.
    let kept = (!parts.status.is_server_error()).then(|| keep(parts.status, &parts.headers, &body));
    keep_answer(&state, &again, kept.as_ref()).await;
    Response::from_parts(parts, Body::from(body))
}

async fn keep_answer(state: &ApiState, to: &Repeatable, answer: Option<&KeptAnswer>) {
    if let Err(error) = state.store.answered(to, answer).await {
        tracing::warn!(%error, "an answer cannot be kept");
    }
}

fn keep(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> KeptAnswer {
    let value = |name: &HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let pairs = KEPT_HEADERS.into_iter().filter_map(|name| Some((name.to_string(), value(&name)?)));
    let pairs: Vec<_> = pairs.collect();
    KeptAnswer {
        status: status.as_u16(),
        // Strings always are JSON.
        headers: serde_json::to_string(&pairs).unwrap_or_default(),
        body: String::from_utf8_lossy(body).into_owned(),
    }
}

fn replayed(kept: KeptAnswer) -> Response {
    let mut answer = Response::new(Body::from(kept.body));
    *answer.status_mut() = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let pairs: Vec<(String, String)> = serde_json::from_str(&kept.headers).unwrap_or_default();
    for (name, value) in pairs {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            answer.headers_mut().insert(name, value);
        }
    }
    mark(answer)
}

fn mark(mut answer: Response) -> Response {
    answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_what_is_secret() {
        for (method, path, expected) in [
            (Method::POST, "/v1/apps/shop/actions/deploy", true),
            (Method::PUT, "/v1/apps/shop", true),
            (Method::DELETE, "/v1/apps/shop", true),
            (Method::GET, "/v1/apps/shop", false),
            (Method::PUT, "/v1/apps/shop/secrets/key", false),
            (Method::PUT, "/v1/notifiers/pager", false),
            (Method::POST, "/v1/devices/actions/invite", false),
            (Method::POST, "/v1/devices/pi/actions/rename", true),
        ] {
            assert_eq!(is_repeatable(&method, path), expected, "{method} {path}");
        }
    }
}
