//! `/v1/shards`: members that share a load.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use weir_config::{Shard, ShardManifest, ShardName};

use super::{
    ApiState,
    objects::{Answer, answer, json, named, parse_name, precondition},
    query::Params,
    wait::WaitQuery,
    wire::{List, ProblemDetails, ShardResource},
};
use crate::store::{Kind, StoreError, Token, Written};

/// All shards, by name.
#[utoipa::path(get, path = "/v1/shards", responses((status = 200, body = List<ShardResource>)))]
pub(crate) async fn list(State(state): State<ApiState>) -> Answer {
    let records = state.store.shards().await?;
    let world = state.world();
    let items = records.into_iter().map(|record| state.shard_resource(&world, record)).collect();
    Ok(Json(List::<ShardResource> { items }).into_response())
}

/// One shard, with its members.
#[utoipa::path(get, path = "/v1/shards/{name}", params(WaitQuery),
    responses((status = 200, body = ShardResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
) -> Answer {
    let name: ShardName = parse_name(&name)?;
    let record = state.store.shard(&name).await?;
    let record = record.ok_or_else(|| StoreError::not_found(Kind::Shard, &name))?;
    let resource = state.settle_shard(record, &query).await?;
    Ok(shown(StatusCode::OK, resource))
}

/// Makes a shard what is written here, new or not.
#[utoipa::path(put, path = "/v1/shards/{name}", params(WaitQuery), request_body = ShardManifest,
    responses((status = 200, body = ShardResource), (status = 201, body = ShardResource),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
    Params(query): Params<WaitQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let (manifest, shard) = Shard::read(json(&body)?)?;
    named(&name, &manifest.name)?;
    let precondition = precondition(&headers)?;
    let Written { record, created, .. } =
        state.store.put_shard(&manifest, &shard, precondition, &token.id).await?;
    let resource = state.settle_shard(record, &query).await?;
    Ok(shown(if created { StatusCode::CREATED } else { StatusCode::OK }, resource))
}

/// Deletes a shard. Refused while an app names it.
#[utoipa::path(delete, path = "/v1/shards/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
) -> Answer {
    state.store.delete_shard(&parse_name(&name)?, &token.id).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

fn shown(status: StatusCode, resource: ShardResource) -> Response {
    answer(status, resource.revision, resource)
}
