//! `/v1/issuers`: the authorities that certificates are ordered from.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use weir_config::{IssuerManifest, IssuerName, Problem, Problems};

use super::{
    ApiState,
    call::{json, parse_name},
    problem::ApiProblem,
    wire::{IssuerResource, IssuerStatus, List, ProblemDetails},
};
use crate::{certificates::Command, store::IssuerRecord, time::rfc3339};

const MOST: usize = 20;

/// All issuers, in the order in which they are asked.
#[utoipa::path(get, path = "/v1/issuers",
    responses((status = 200, body = List<IssuerResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
) -> Result<Json<List<IssuerResource>>, ApiProblem> {
    let records = state.store.issuers().await?;
    Ok(Json(List::whole(records.into_iter().map(|record| shown(&state, record)).collect())))
}

/// One issuer, without the key of its external account.
#[utoipa::path(get, path = "/v1/issuers/{name}",
    responses((status = 200, body = IssuerResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<IssuerResource>, ApiProblem> {
    Ok(Json(stored(&state, &parse_name(&name)?).await?))
}

/// Makes an issuer what is written here, new or not: what is due is ordered from it at once.
#[utoipa::path(put, path = "/v1/issuers/{name}", request_body = IssuerManifest,
    responses((status = 200, body = IssuerResource), (status = 201, body = IssuerResource),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(
    State(state): State<ApiState>,
    Path(path): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<IssuerResource>), ApiProblem> {
    let (manifest, name) = IssuerManifest::read(json(&body)?)?;
    if path != manifest.name {
        let message = format!("the path says `{path}`, the object `{}`", manifest.name);
        return Err(Problems(vec![Problem::new("/name", "mismatch", message)]).into());
    }
    let all = state.store.issuers().await?;
    let former = all.iter().find(|issuer| issuer.name == name);
    if former.is_none() && all.len() >= MOST {
        let why = format!("there are {MOST} issuers already; delete one first");
        return Err(ApiProblem::conflict("too_many", why));
    }
    if IssuerRecord::lacks_key(&manifest.spec, former) {
        let message = "write the key that the authority has told you with the `key_id`";
        return Err(Problems(vec![Problem::new("/spec/eab/key", "required", message)]).into());
    }
    let keys = state.vault.keys();
    let is_new = state.store.put_issuer(&name, &manifest.spec, keys).await?;
    changed(&state).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(stored(&state, &name).await?)))
}

/// Deletes an issuer. The certificates that it has issued stay, and are renewed by the others.
#[utoipa::path(delete, path = "/v1/issuers/{name}",
    responses((status = 204), (status = 404, body = ProblemDetails)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiProblem> {
    let name: IssuerName = parse_name(&name)?;
    if !state.store.delete_issuer(&name).await? {
        return Err(no_issuer(&name));
    }
    changed(&state).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn changed(state: &ApiState) -> Result<(), ApiProblem> {
    let told = state.keeper.send(Command::IssuersChanged).await;
    told.map_err(|_| ApiProblem::unavailable("the process is about to end"))
}

async fn stored(state: &ApiState, name: &IssuerName) -> Result<IssuerResource, ApiProblem> {
    let found = state.store.issuers().await?.into_iter().find(|issuer| issuer.name == *name);
    found.map(|record| shown(state, record)).ok_or_else(|| no_issuer(name))
}

fn no_issuer(name: &IssuerName) -> ApiProblem {
    ApiProblem::not_found(&format!("there is no issuer `{name}`"))
}

fn shown(state: &ApiState, record: IssuerRecord) -> IssuerResource {
    let world = state.world();
    let seen = world.observed.certificates.issuers.get(&record.name);
    IssuerResource {
        kind: "Issuer".to_owned(),
        name: record.name.to_string(),
        created_at: rfc3339(record.created_at),
        updated_at: rfc3339(record.updated_at),
        spec: record.spec,
        status: IssuerStatus {
            account: seen.and_then(|seen| seen.account.clone()),
            last_error: seen.and_then(|seen| seen.error.clone()),
        },
    }
}
