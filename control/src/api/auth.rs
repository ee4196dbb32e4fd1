//! Who may use the API: whoever holds a token.

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{ApiState, problem::ApiProblem};
use crate::token;

pub(crate) async fn require_token(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let secret = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, secret)| secret.trim());
    let Some(secret) = secret else {
        return unauthorized(
            "send `Authorization: Bearer TOKEN`; the first token is in the file `admin.token` of the state directory",
        );
    };
    match state.store.token(&token::hash(secret)).await {
        Ok(Some(token)) => {
            request.extensions_mut().insert(token);
            next.run(request).await
        }
        Ok(None) => unauthorized("this token is not known here"),
        Err(error) => ApiProblem::from(error).into_response(),
    }
}

fn unauthorized(detail: &str) -> Response {
    let status = StatusCode::UNAUTHORIZED;
    let problem = ApiProblem::new(status, "unauthorized", "A token is needed", detail.to_owned());
    ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}
