//! A request about one object, and what is done with objects of every kind.

use std::str::FromStr;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use weir_config::{Hostname, Problem, Problems, decode};

use super::{
    ApiState,
    idempotency::IdempotencyKey,
    operations::with_operation,
    problem::ApiProblem,
    query::{PageQuery, Params},
    wait::WaitQuery,
    wire::{List, Resource},
};
use crate::{
    reconciler::World,
    store::{Cause, Object, Operation, Precondition, Record, Token, Verb, Written},
    time::rfc3339,
};

pub(super) type Answer = Result<Response, ApiProblem>;

/// A kind of objects as the API shows it: what the kind has of its own.
pub(crate) trait Shown: Object {
    type Status: Serialize;

    /// The spec as it is shown.
    fn shown(spec: Self::Spec) -> Self::Spec {
        spec
    }

    /// How one is; `None` if the loop does not have it: not yet, or no more.
    fn status(record: &Record<Self>, state: &ApiState, world: &World) -> Option<Self::Status>;

    /// The status of one that the loop does not have.
    fn unseen(record: &Record<Self>) -> Self::Status;

    /// Whether nothing more is to be waited for.
    fn is_settled(status: &Self::Status) -> bool;
}

/// A kind of objects that are stored as they are written.
pub(crate) trait Parsed: Shown {
    /// Reads what is written, and checks it.
    fn parse(value: Value, base_domain: &Hostname) -> Result<(Self::Spec, Self), Problems>;
}

/// A request about one object, or for a new one.
pub(crate) struct Call {
    pub(super) state: ApiState,
    pub(super) token: Token,
    /// Of the path; empty if it has none.
    name: String,
    pub(super) wait: WaitQuery,
    pub(super) headers: HeaderMap,
    /// Says which request this is, if it is sent again.
    key: Option<String>,
    pub(super) body: Bytes,
}

impl FromRequest<ApiState> for Call {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiProblem> {
        let (mut parts, body) = request.into_parts();
        let Params(wait) = Params::<WaitQuery>::from_request_parts(&mut parts, state).await?;
        let wait = wait.or_preferred(&parts.headers);
        let path = RawPathParams::from_request_parts(&mut parts, state).await;
        let path = path.map_err(|error| ApiProblem::not_found(&error.body_text()))?;
        let name = path.iter().find(|(key, _)| *key == "name").map(|(_, name)| name.to_owned());
        let token = parts.extensions.get().cloned();
        let token = token.ok_or_else(|| ApiProblem::unavailable("no token was looked at"))?;
        let key = parts.extensions.get::<IdempotencyKey>().map(|key| key.0.clone());
        let headers = parts.headers.clone();
        let body = Bytes::from_request(Request::from_parts(parts, body), state).await;
        let body = body.map_err(|error| {
            let (status, why) = (error.status(), error.body_text());
            ApiProblem::new(status, "bad_body", "The body cannot be read", why)
        })?;
        let name = name.unwrap_or_default();
        Ok(Self { state: state.clone(), token, name, wait, headers, key, body })
    }
}

impl Call {
    /// The name in the path.
    pub(super) fn name<O: Object>(&self) -> Result<O::Name, ApiProblem> {
        parse_name(&self.name)
    }

    /// What is asked for; the default if the body is empty.
    pub(super) fn request<T: DeserializeOwned + Default>(&self) -> Result<T, ApiProblem> {
        if self.body.is_empty() { Ok(T::default()) } else { Ok(decode(self.json()?)?) }
    }

    pub(super) fn cause(&self, verb: Verb) -> Cause<'_> {
        Cause { actor: &self.token.id, verb, key: self.key.as_deref() }
    }

    pub(super) async fn read<O: Shown>(self) -> Answer {
        let record = self.state.store.read::<O>(&self.name::<O>()?).await?;
        self.answer(StatusCode::OK, record, None, O::is_settled).await
    }

    pub(super) async fn create<O: Parsed>(self) -> Answer {
        let (spec, object) = O::parse(self.json()?, &self.state.base_domain)?;
        self.write(&spec, &object, Precondition::New).await
    }

    /// The object that is written in the body, by the name in the path.
    pub(super) fn object<O: Parsed>(&self) -> Result<(O::Spec, O), ApiProblem> {
        let (spec, object) = O::parse(self.json()?, &self.state.base_domain)?;
        self.is_named(object.name())?;
        Ok((spec, object))
    }

    /// Whether the object in the body has the name in the path.
    pub(super) fn is_named(&self, named: &str) -> Result<(), ApiProblem> {
        let path = &self.name;
        if path != named {
            let message = format!("the path says `{path}`, the object `{named}`");
            return Err(Problems(vec![Problem::new("/name", "mismatch", message)]).into());
        }
        Ok(())
    }

    pub(super) async fn put<O: Parsed>(self) -> Answer {
        let (spec, object) = self.object::<O>()?;
        let precondition = self.precondition()?;
        self.write(&spec, &object, precondition).await
    }

    pub(super) async fn write<O: Shown>(
        self,
        spec: &O::Spec,
        object: &O,
        holds: Precondition,
    ) -> Answer {
        let written = self.state.store.put(spec, object, holds, self.cause(Verb::Put)).await?;
        self.answer_written(written).await
    }

    pub(super) async fn answer_written<O: Shown>(&self, written: Written<O>) -> Answer {
        let Written { record, created, operation } = written;
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        self.answer(status, record, operation.as_ref(), O::is_settled).await
    }

    pub(super) async fn delete<O: Object>(self) -> Answer {
        let (name, precondition) = (self.name::<O>()?, self.precondition()?);
        let cause = self.cause(Verb::Delete);
        let operation = self.state.store.delete::<O>(&name, precondition, cause).await?;
        if let Some(limit) = self.wait.limit()? {
            self.state.settled_operation(operation.number, Some(limit)).await?;
        }
        Ok(with_operation(StatusCode::ACCEPTED.into_response(), Some(&operation)))
    }

    /// Answers by an object once the loop has it and, if that is asked for, once it is `done`.
    pub(super) async fn answer<O: Shown>(
        &self,
        status: StatusCode,
        record: Record<O>,
        operation: Option<&Operation>,
        done: impl Fn(&O::Status) -> bool,
    ) -> Answer {
        let record = self.state.settle(record, self.wait.limit()?, done).await?;
        let etag = [(header::ETAG, format!("\"{}\"", record.meta.revision))];
        let resource = self.state.show(&self.state.world(), record);
        Ok(with_operation((status, etag, Json(resource)).into_response(), operation))
    }

    /// `If-None-Match: *` for new ones only, `If-Match: "REVISION"` for unchanged ones only, or `*`
    /// for any that is there (RFC 9110 section 13.1).
    pub(super) fn precondition(&self) -> Result<Precondition, ApiProblem> {
        if self.headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*") {
            return Ok(Precondition::New);
        }
        let Some(value) = self.headers.get(header::IF_MATCH) else {
            return Ok(Precondition::None);
        };
        if value == "*" {
            return Ok(Precondition::Exists);
        }
        let revision = value.to_str().ok().and_then(|text| text.trim_matches('"').parse().ok());
        revision.map(Precondition::Revision).ok_or_else(|| {
            let why = "If-Match takes an ETag of this API, such as \"12\"".to_owned();
            ApiProblem::bad_request("bad_etag", why)
        })
    }

    pub(super) fn json(&self) -> Result<Value, ApiProblem> {
        json(&self.body)
    }
}

pub(super) fn json(body: &[u8]) -> Result<Value, ApiProblem> {
    serde_json::from_slice(body)
        .map_err(|error| ApiProblem::bad_request("bad_json", format!("not valid JSON: {error}")))
}

impl ApiState {
    /// Objects of a kind, by name.
    pub(super) async fn list<O: Shown>(&self, query: &PageQuery) -> Answer {
        let page = query.page(None)?;
        let (records, revision) = self.store.list::<O>(&page).await?;
        let next_cursor = page.next(&records, |last| last.name.to_string());
        let world = self.world();
        let items: Vec<_> = records.into_iter().map(|record| self.show(&world, record)).collect();
        Ok(Json(List { items, next_cursor, revision: Some(revision) }).into_response())
    }

    /// An object with its status in this world.
    pub(super) fn show<O: Shown>(
        &self,
        world: &World,
        record: Record<O>,
    ) -> Resource<O::Spec, O::Status> {
        let status = O::status(&record, self, world).unwrap_or_else(|| O::unseen(&record));
        Resource {
            kind: O::KIND.as_str().to_owned(),
            name: record.name.to_string(),
            generation: record.meta.generation,
            revision: record.meta.revision,
            created_at: rfc3339(record.meta.created_at),
            updated_at: rfc3339(record.meta.updated_at),
            spec: O::shown(record.spec),
            status,
        }
    }
}

/// A name in a path; what cannot be a name is not there.
pub(super) fn parse_name<T: FromStr<Err = String>>(name: &str) -> Result<T, ApiProblem> {
    name.parse().map_err(|why: String| ApiProblem::not_found(&why))
}
