//! `/v1/failover-policies`: who serves some host names, and by what law that changes.

use axum::extract::State;
use serde_json::Value;
use weir_config::{FailoverManifest, FailoverPolicy, FailoverSpec, Hostname, Problems};

use super::{
    ApiState,
    call::{Answer, Call, Parsed, Shown},
    query::{PageQuery, Params},
    wait::WaitQuery,
    wire::{FailoverResource, FailoverStatus, List, Phase, ProblemDetails},
};
use crate::{reconciler::World, store::Record};

impl Parsed for FailoverPolicy {
    fn parse(value: Value, _: &Hostname) -> Result<(FailoverSpec, Self), Problems> {
        let (manifest, policy) = Self::read(value)?;
        Ok((manifest.spec, policy))
    }
}

impl Shown for FailoverPolicy {
    type Status = FailoverStatus;

    fn status(record: &Record<Self>, _: &ApiState, world: &World) -> Option<FailoverStatus> {
        // A policy as the loop has it does not say of which generation it is.
        let is_this_one = world.desired.revision >= record.meta.revision;
        let is_known = is_this_one && world.desired.policies.contains_key(&record.name);
        let observed_generation = record.meta.generation;
        is_known.then_some(FailoverStatus { phase: Phase::Ready, observed_generation })
    }

    fn unseen(_: &Record<Self>) -> FailoverStatus {
        FailoverStatus { phase: Phase::Progressing, observed_generation: 0 }
    }

    fn is_settled(status: &FailoverStatus) -> bool {
        status.phase.is_settled()
    }
}

/// All failover policies, by name.
#[utoipa::path(get, path = "/v1/failover-policies", params(PageQuery),
    responses((status = 200, body = List<FailoverResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Answer {
    state.list::<FailoverPolicy>(&query).await
}

/// One failover policy.
#[utoipa::path(get, path = "/v1/failover-policies/{name}", params(WaitQuery),
    responses((status = 200, body = FailoverResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(call: Call) -> Answer {
    call.read::<FailoverPolicy>().await
}

/// Makes a failover policy what is written here, new or not.
#[utoipa::path(put, path = "/v1/failover-policies/{name}", params(WaitQuery),
    request_body = FailoverManifest,
    responses((status = 200, body = FailoverResource), (status = 201, body = FailoverResource),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(call: Call) -> Answer {
    call.put::<FailoverPolicy>().await
}

/// Deletes a failover policy, and what it had decided.
#[utoipa::path(delete, path = "/v1/failover-policies/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    call.delete::<FailoverPolicy>().await
}
