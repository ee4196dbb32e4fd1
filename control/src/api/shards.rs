//! `/v1/shards`: members that share a load.

use axum::extract::State;
use serde_json::Value;
use weir_config::{Hostname, Problems, Shard, ShardManifest, ShardSpec};

use super::{
    ApiState,
    call::{Answer, Call, Shown},
    query::{PageQuery, Params},
    wait::WaitQuery,
    wire::{List, Phase, ProblemDetails, ShardResource, ShardStatus},
};
use crate::{reconciler::World, status, store::Record};

impl Shown for Shard {
    type Status = ShardStatus;

    fn parse(value: Value, _: &Hostname) -> Result<(ShardSpec, Self), Problems> {
        let (manifest, shard) = Self::read(value)?;
        Ok((manifest.spec, shard))
    }

    fn status(record: &Record<Self>, state: &ApiState, world: &World) -> Option<ShardStatus> {
        let shard = world.desired.shards.get(&record.name)?;
        // A shard as the loop has it does not say of which generation it is.
        let is_this_one = world.desired.revision >= record.meta.revision;
        let generation = record.meta.generation;
        is_this_one
            .then(|| status::shard_status(shard, generation, &world.observed, &state.activity))
    }

    fn unseen(_: &Record<Self>) -> ShardStatus {
        ShardStatus {
            phase: Phase::Progressing,
            observed_generation: 0,
            ready_members: 0,
            members: Vec::new(),
        }
    }

    fn is_settled(status: &ShardStatus) -> bool {
        status.phase.is_settled()
    }
}

/// All shards, by name.
#[utoipa::path(get, path = "/v1/shards", params(PageQuery),
    responses((status = 200, body = List<ShardResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Answer {
    state.list::<Shard>(&query).await
}

/// One shard, with its members.
#[utoipa::path(get, path = "/v1/shards/{name}", params(WaitQuery),
    responses((status = 200, body = ShardResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(call: Call) -> Answer {
    call.read::<Shard>().await
}

/// Makes a shard what is written here, new or not.
#[utoipa::path(put, path = "/v1/shards/{name}", params(WaitQuery), request_body = ShardManifest,
    responses((status = 200, body = ShardResource), (status = 201, body = ShardResource),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(call: Call) -> Answer {
    call.put::<Shard>().await
}

/// Deletes a shard. Refused while an app names it.
#[utoipa::path(delete, path = "/v1/shards/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    call.delete::<Shard>().await
}
