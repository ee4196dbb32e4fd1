//! `/v1/providers`: who answers for zones that are hosted elsewhere.

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use serde::Deserialize;
use weir_config::{Hostname, Problems, ProviderManifest, ProviderName, ProviderSpec};

use super::{
    ApiState,
    call::{Answer, Call, Shown, parse_name},
    operations::with_operation,
    problem::ApiProblem,
    query::{PageQuery, Params},
    wire::{
        CarriedPolicy, CustomHostnameResource, List, ProblemDetails, ProviderPreview,
        ProviderResource, ProviderStatus, ProviderTest, PurgeRequest,
    },
};
use crate::{
    providers::{Adapter, Carried, CustomHostname, Refusal},
    reconciler::World,
    store::{Kind, Provider, Record, StoreError, Verb},
    time::rfc3339,
};

impl Shown for Provider {
    type Status = ProviderStatus;

    fn status(record: &Record<Self>, state: &ApiState, _: &World) -> Option<ProviderStatus> {
        let carried = state.carried.borrow();
        let own = carried.iter().filter(|(_, carried)| carried.provider == record.name);
        let policies = own.map(|(policy, carried)| carried_policy(policy, carried)).collect();
        Some(ProviderStatus { policies })
    }

    fn unseen(_: &Record<Self>) -> ProviderStatus {
        ProviderStatus::default()
    }

    fn is_settled(_: &ProviderStatus) -> bool {
        true
    }
}

/// How far a provider is with a policy.
pub(super) fn carried_policy(policy: &str, carried: &Carried) -> CarriedPolicy {
    CarriedPolicy {
        policy: policy.to_owned(),
        provider: carried.provider.to_string(),
        state: if carried.error.is_none() { "current" } else { "behind" }.to_owned(),
        epoch: carried.epoch,
        tried_at: rfc3339(carried.at),
        error: carried.error.clone(),
    }
}

/// All providers, by name, without what is secret.
#[utoipa::path(get, path = "/v1/providers", params(PageQuery),
    responses((status = 200, body = List<ProviderResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Answer {
    state.list::<Provider>(&query).await
}

/// One provider, without what is secret.
#[utoipa::path(get, path = "/v1/providers/{name}",
    responses((status = 200, body = ProviderResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(call: Call) -> Answer {
    call.read::<Provider>().await
}

/// Makes a provider what is written here, new or not. Without a secret it keeps the one it has.
#[utoipa::path(put, path = "/v1/providers/{name}", request_body = ProviderManifest,
    responses((status = 200, body = ProviderResource), (status = 201, body = ProviderResource),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(call: Call) -> Answer {
    let (name, spec) = written(&call)?;
    let (precondition, cause) = (call.precondition()?, call.cause(Verb::Put));
    let written = call.state.vault.put_provider(&name, spec, precondition, cause).await?;
    call.answer_written(written).await
}

/// Whether writing a provider would change what is not shown; nothing is changed.
#[utoipa::path(post, path = "/v1/providers/{name}/actions/preview",
    request_body = ProviderManifest,
    responses((status = 200, body = ProviderPreview), (status = 422, body = ProblemDetails)))]
pub(crate) async fn preview(call: Call) -> Answer {
    let (name, spec) = written(&call)?;
    let changes_secret = call.state.vault.changes_provider_secret(&name, spec).await?;
    Ok(Json(ProviderPreview { changes_secret }).into_response())
}

fn written(call: &Call) -> Result<(ProviderName, ProviderSpec), ApiProblem> {
    let (manifest, name) = ProviderManifest::read(call.json()?)?;
    call.is_named(&name)?;
    Ok((name, manifest.spec))
}

/// Deletes a provider. Refused while a failover policy names it; what it has made stays there.
#[utoipa::path(delete, path = "/v1/providers/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    call.delete::<Provider>().await
}

/// Asks a provider whether it takes what it would be told; nothing is changed there.
#[utoipa::path(post, path = "/v1/providers/{name}/actions/test",
    responses((status = 200, body = ProviderTest), (status = 404, body = ProblemDetails)))]
pub(crate) async fn test(call: Call) -> Answer {
    let adapter = adapter(&call.state, &call.name::<Provider>()?).await?;
    let test = match adapter.test().await {
        Ok(found) => ProviderTest { passed: true, found, error: None },
        Err(refusal) => {
            ProviderTest { passed: false, found: Vec::new(), error: Some(refusal.message) }
        }
    };
    Ok(Json(test).into_response())
}

/// Has the caches of a provider forget all that they have of some names.
#[utoipa::path(post, path = "/v1/providers/{name}/actions/purge", request_body = PurgeRequest,
    responses((status = 204), (status = 404, body = ProblemDetails),
        (status = 422, body = ProblemDetails), (status = 502, body = ProblemDetails)))]
pub(crate) async fn purge(call: Call) -> Answer {
    let record = call.state.store.read::<Provider>(&call.name::<Provider>()?).await?;
    let PurgeRequest { hostnames } = call.request()?;
    let mut problems = Problems::default();
    let parse = |(i, name): (usize, &String)| {
        problems.take(&format!("/hostnames/{i}"), "bad_hostname", name.parse::<Hostname>())
    };
    let names: Vec<_> = hostnames.iter().enumerate().filter_map(parse).collect();
    let names = problems.or_value(names)?;
    adapter(&call.state, &record.name).await?.purge(&names).await?;
    let (cause, what) = (call.cause(Verb::Purge), hostnames.join(", "));
    let done = call.state.store.act_done(cause, record.target(), format!("forgotten: {what}"));
    let answer = axum::http::StatusCode::NO_CONTENT.into_response();
    Ok(with_operation(answer, Some(&done.await?)))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ZoneQuery {
    /// The zone at the provider by which other's names are served.
    zone: String,
}

/// The names of others that are served through a zone at a provider, with their certificates.
#[utoipa::path(get, path = "/v1/providers/{name}/custom-hostnames", params(ZoneQuery),
    responses((status = 200, body = List<CustomHostnameResource>),
        (status = 404, body = ProblemDetails), (status = 502, body = ProblemDetails)))]
pub(crate) async fn custom_hostnames(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(query): Params<ZoneQuery>,
) -> Answer {
    let zone = query.zone.parse::<Hostname>();
    let zone = zone.map_err(|why| ApiProblem::bad_request("bad_zone", why))?;
    let adapter = adapter(&state, &parse_name(&name)?).await?;
    let found = adapter.custom_hostnames(&zone).await?;
    Ok(Json(List::whole(found.into_iter().map(custom_hostname).collect())).into_response())
}

fn custom_hostname(found: CustomHostname) -> CustomHostnameResource {
    let CustomHostname { hostname, status, ssl } = found;
    let errors = ssl.validation_errors.into_iter().map(|error| error.message).collect();
    CustomHostnameResource { hostname, status, tls: ssl.status, errors }
}

async fn adapter(state: &ApiState, name: &ProviderName) -> Result<Adapter, ApiProblem> {
    let spec = state.vault.provider(name).await?;
    let spec = spec.ok_or_else(|| StoreError::not_found(Kind::Provider, name))?;
    Ok(Adapter::new(&spec)?)
}

impl From<Refusal> for ApiProblem {
    fn from(refusal: Refusal) -> Self {
        let status = axum::http::StatusCode::BAD_GATEWAY;
        Self::new(status, "provider", "The provider refuses, or is not there", refusal.message)
    }
}
