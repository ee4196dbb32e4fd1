//! Query parameters, whose mistakes are problems like any other.

use std::str::FromStr;

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::problem::ApiProblem;
use crate::store::Page;

/// As axum's `Query`, but for the answer when it cannot be read.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(ApiProblem::bad_request("bad_query", rejection.body_text())),
        }
    }
}

/// The longest page that can be asked for.
const MAX_LIMIT: u32 = 1000;

/// Which part of a list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// At most so many, up to 1000.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageQuery {
    pub(super) fn page<K: FromStr>(&self, default: Option<u32>) -> Result<Page<K>, ApiProblem> {
        page(self.limit.or(default), self.cursor.as_deref())
    }
}

/// # Errors
/// When the limit is out of range, or the cursor none of this list.
pub(super) fn page<K: FromStr>(
    limit: Option<u32>,
    cursor: Option<&str>,
) -> Result<Page<K>, ApiProblem> {
    if limit.is_some_and(|limit| !(1..=MAX_LIMIT).contains(&limit)) {
        let why = format!("a limit is 1 to {MAX_LIMIT}");
        return Err(ApiProblem::bad_request("bad_limit", why));
    }
    let after = cursor.map(str::parse).transpose().map_err(|_| {
        let why = "this cursor is not of this list; use `next_cursor` as it was told".to_owned();
        ApiProblem::bad_request("bad_cursor", why)
    })?;
    Ok(Page { after, limit })
}
