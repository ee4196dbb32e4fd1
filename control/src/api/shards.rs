//! `/v1/shards`: members that share a load.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde_json::Value;
use weir_config::{
    App, AppManifest, AppSpec, Hostname, Problem, Problems, Shard, ShardManifest, ShardSpec, decode,
};

use super::{
    ApiState,
    call::{Answer, Call, Parsed, Shown},
    operations::with_operation,
    query::{PageQuery, Params},
    wait::WaitQuery,
    wire::{
        List, OperationResource, Phase, ProblemDetails, ShardDeployRequest, ShardResource,
        ShardStatus,
    },
};
use crate::{
    reconciler::World,
    status,
    store::{Record, RollingUpdateSpec, Verb},
};

impl Parsed for Shard {
    fn parse(value: Value, _: &Hostname) -> Result<(ShardSpec, Self), Problems> {
        let (manifest, shard) = Self::read(value)?;
        Ok((manifest.spec, shard))
    }
}

impl Shown for Shard {
    type Status = ShardStatus;

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

/// Deploys an image to every app that is placed on a shard's hosts, some at a time, and no more of
/// them when more have failed than may. Asked for again, those that have it already are left as they
/// are.
#[utoipa::path(post, path = "/v1/shards/{name}/actions/deploy", params(WaitQuery),
    request_body = ShardDeployRequest,
    responses((status = 202, body = OperationResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails), (status = 422, body = ProblemDetails)))]
pub(crate) async fn deploy(call: Call) -> Answer {
    let name = call.name::<Shard>()?;
    let ShardDeployRequest { image, parallel, max_failed_percent } = decode(call.json()?)?;
    let mut problems = Problems::default();
    if parallel == 0 {
        problems.push(Problem::new("/parallel", "out_of_range", "write 1 or more"));
    }
    if max_failed_percent > 100 {
        problems.push(Problem::new("/max_failed_percent", "out_of_range", "write 0 to 100"));
    }
    // What an image's name may be is known where apps are read.
    let spec = AppSpec { image: Some(image.clone()), ..AppSpec::default() };
    let probe = AppManifest { kind: "App".to_owned(), name: "app".to_owned(), spec };
    if let Err(Problems(found)) = App::from_manifest(&probe, &call.state.base_domain) {
        let of_image = |problem: Problem| Problem { pointer: "/image".to_owned(), ..problem };
        problems.0.extend(found.into_iter().map(of_image));
    }
    let spec = RollingUpdateSpec { image, parallel, max_failed_percent };
    let (spec, cause) = (problems.or_value(spec)?, call.cause(Verb::RollingUpdate));
    let mut begun = call.state.store.begin_rolling_update(&name, &spec, cause).await?;
    if let Some(limit) = call.wait.limit()? {
        begun = call.state.settled_operation(begun.number, Some(limit)).await?.unwrap_or(begun);
    }
    let shown = Json(call.state.operation_shown(&begun).await?);
    Ok(with_operation((StatusCode::ACCEPTED, shown).into_response(), Some(&begun)))
}
