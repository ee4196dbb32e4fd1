//! `/v1/issuers`: the authorities that certificates are ordered from.

use axum::{Json, extract::State, response::IntoResponse};
use weir_config::{IssuerManifest, IssuerName, IssuerSpec};

use super::{
    ApiState,
    call::{Answer, Call, Shown},
    problem::ApiProblem,
    query::{PageQuery, Params},
    wire::{HiddenChanges, IssuerResource, IssuerStatus, List, ProblemDetails},
};
use crate::{
    reconciler::World,
    store::{Issuer, Record, Verb},
};

impl Shown for Issuer {
    type Status = IssuerStatus;

    fn status(record: &Record<Self>, _: &ApiState, world: &World) -> Option<IssuerStatus> {
        let seen = world.observed.certificates.issuers.get(&record.name)?;
        let is_this = seen.revision >= record.meta.revision;
        is_this
            .then(|| IssuerStatus { account: seen.account.clone(), last_error: seen.error.clone() })
    }

    fn unseen(_: &Record<Self>) -> IssuerStatus {
        IssuerStatus::default()
    }

    fn is_settled(_: &IssuerStatus) -> bool {
        true
    }
}

/// All issuers, by name.
#[utoipa::path(get, path = "/v1/issuers", params(PageQuery),
    responses((status = 200, body = List<IssuerResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Answer {
    state.list::<Issuer>(&query).await
}

/// One issuer, without the key of its external account.
#[utoipa::path(get, path = "/v1/issuers/{name}",
    responses((status = 200, body = IssuerResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(call: Call) -> Answer {
    call.read::<Issuer>().await
}

/// Makes an issuer what is written here, new or not: what is due is ordered from it at once. Without
/// the key of its external account it keeps the one it has.
#[utoipa::path(put, path = "/v1/issuers/{name}", request_body = IssuerManifest,
    responses((status = 200, body = IssuerResource), (status = 201, body = IssuerResource),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(call: Call) -> Answer {
    let (name, spec) = written(&call)?;
    let (precondition, cause) = (call.precondition()?, call.cause(Verb::Put));
    let written = call.state.vault.put_issuer(&name, &spec, precondition, cause).await?;
    call.answer_written(written).await
}

/// What writing an issuer would change of what is not shown; nothing is changed.
#[utoipa::path(post, path = "/v1/issuers/{name}/actions/preview", request_body = IssuerManifest,
    responses((status = 200, body = HiddenChanges), (status = 422, body = ProblemDetails)))]
pub(crate) async fn preview(call: Call) -> Answer {
    let (name, spec) = written(&call)?;
    let changes = call.state.vault.hidden_changes_of_issuer(&name, &spec).await?;
    Ok(Json(HiddenChanges::of(changes)).into_response())
}

fn written(call: &Call) -> Result<(IssuerName, IssuerSpec), ApiProblem> {
    let (manifest, name) = IssuerManifest::read(call.json()?)?;
    call.is_named(&name)?;
    Ok((name, manifest.spec))
}

/// Deletes an issuer with its account. The certificates that it has issued stay, and are renewed by
/// the others.
#[utoipa::path(delete, path = "/v1/issuers/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    call.delete::<Issuer>().await
}
