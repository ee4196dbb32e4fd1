//! Errors as RFC 9457 problem details.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use weir_config::{Problem, Problems};

use super::wire::ProblemDetails;
use crate::{store::StoreError, transition::Refused, vault::VaultError};

/// An error answer: what is wrong, where, and what to do.
#[derive(Debug)]
pub(crate) struct ApiProblem(Box<ProblemDetails>);

impl ApiProblem {
    pub(crate) fn new(status: StatusCode, code: &str, title: &str, detail: String) -> Self {
        Self(Box::new(ProblemDetails {
            r#type: format!("urn:weir:problem:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            code: code.to_owned(),
            errors: Vec::new(),
        }))
    }

    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail.to_owned())
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this path does not take this method; see /openapi.json".to_owned();
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "method_not_allowed", "Method not allowed", detail)
    }

    pub(crate) fn unavailable(detail: &str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "not_ready", "Not ready", detail.to_owned())
    }

    pub(crate) fn conflict(code: &str, detail: String) -> Self {
        Self::new(StatusCode::CONFLICT, code, "This conflicts with what is", detail)
    }

    pub(crate) fn bad_request(code: &str, detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, "The request cannot be understood", detail)
    }

    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "an API request failed");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal", "Weir failed", error.to_string())
    }

    pub(crate) fn with_error(mut self, pointer: &str, code: &str, message: &str) -> Self {
        self.0.errors.push(Problem::new(pointer, code, message));
        self
    }
}

impl From<Problems> for ApiProblem {
    fn from(problems: Problems) -> Self {
        let detail = match problems.0.as_slice() {
            [one] => one.to_string(),
            many => format!("{} problems; see `errors`", many.len()),
        };
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let mut this = Self::new(status, "invalid", "The object is not valid", detail);
        this.0.errors = problems.0;
        this
    }
}

impl From<StoreError> for ApiProblem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match &error {
            StoreError::NotFound { .. } => Self::not_found(&detail),
            StoreError::NameTaken { .. } => {
                Self::conflict("name_taken", detail.clone()).with_error("/name", "taken", &detail)
            }
            StoreError::HostnameTaken { .. } => Self::conflict("hostname_taken", detail.clone())
                .with_error("/spec/hostnames", "taken", &detail),
            StoreError::HostnameSteered { pointer, .. } => {
                Self::conflict("hostname_taken", detail.clone())
                    .with_error(pointer, "taken", &detail)
            }
            StoreError::NoSuchShard { pointer, .. } => {
                Problems(vec![Problem::new(pointer, "no_shard", detail)]).into()
            }
            StoreError::NoSuchProvider { .. } => {
                Problems(vec![Problem::new("/spec/provider", "no_provider", detail)]).into()
            }
            StoreError::NoProviderSecret { pointer } => {
                Problems(vec![Problem::new(*pointer, "required", detail)]).into()
            }
            StoreError::ProviderInUse { .. } => Self::conflict("provider_in_use", detail),
            StoreError::NoSuchPolicy(_) | StoreError::OwnTarget(_) => {
                Problems(vec![Problem::new("/spec/failover", "no_failover", detail)]).into()
            }
            StoreError::Refused(Refused::NoSuchDeployment(_)) => Self::not_found(&detail),
            StoreError::Refused(_) | StoreError::NotCancelled(_) => {
                Self::conflict("refused", detail)
            }
            StoreError::NothingOnShard(_) => Self::conflict("nothing_on_shard", detail),
            StoreError::SecretIsVariable(name) => {
                let pointer = format!("/spec/env/{name}");
                Problems(vec![Problem::new(pointer, "conflict", detail)]).into()
            }
            StoreError::TooManySecrets { .. } => {
                Problems(vec![Problem::new("", "too_many", detail)]).into()
            }
            StoreError::Records(problems) => problems.clone().into(),
            StoreError::NoSigningSecret => {
                Problems(vec![Problem::new("/spec/secret", "required", detail)]).into()
            }
            StoreError::NoEabKey => {
                Problems(vec![Problem::new("/spec/eab/key", "required", detail)]).into()
            }
            StoreError::TooManyProviders { .. }
            | StoreError::TooManyNotifiers { .. }
            | StoreError::TooManyIssuers { .. } => Self::conflict("too_many", detail),
            StoreError::TooManyInvites => Self::conflict("too_many", detail),
            StoreError::NoImage(_) => Self::conflict("no_image", detail),
            StoreError::NoKey(_) => Self::conflict("no_key", detail),
            StoreError::ShardInUse { .. } => Self::conflict("shard_in_use", detail),
            StoreError::LocalHost => Self::conflict("host_in_use", detail),
            StoreError::Conflict { kind, .. } => {
                let (status, title) =
                    (StatusCode::PRECONDITION_FAILED, format!("The {kind} has changed"));
                Self::new(status, "conflict", &title, detail)
            }
            StoreError::Absent { .. } => {
                let status = StatusCode::PRECONDITION_FAILED;
                Self::new(status, "conflict", "There is no such object", detail)
            }
            StoreError::Full => {
                let status = StatusCode::INSUFFICIENT_STORAGE;
                Self::new(status, "store_full", "No space is left", detail)
            }
            StoreError::Closed => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "taking_over", "The process is being replaced", detail)
            }
            StoreError::Database(_)
            | StoreError::Migration(_)
            | StoreError::Corrupt(_)
            | StoreError::Seal(_) => Self::internal(&error),
        }
    }
}

impl From<VaultError> for ApiProblem {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::NoKey(why) => StoreError::from(why).into(),
            VaultError::Store(error) => error.into(),
            VaultError::Seal(_) | VaultError::File(_) => Self::internal(&error),
        }
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, content_type, Json(self.0)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
