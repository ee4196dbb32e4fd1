//! `/v1/hosts`: the machines that instances run on.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde_json::Value;
use weir_config::{Host, HostManifest, HostSpec, Hostname, Problems, Shard};

use super::{
    ApiState,
    call::{Answer, Call, Parsed, Shown},
    operations::with_operation,
    problem::ApiProblem,
    query::{PageQuery, Params},
    wire::{ConvergeRequest, DriftResource, HostResource, HostStatus, List, ProblemDetails},
};
use crate::{
    host::{HostSeen, HostState},
    reconciler::World,
    status,
    store::{Precondition, Record, Target, Verb},
};

impl Parsed for Host {
    fn parse(value: Value, _: &Hostname) -> Result<(HostSpec, Self), Problems> {
        let (manifest, host) = Self::read(value)?;
        Ok((manifest.spec, host))
    }
}

impl Shown for Host {
    type Status = HostStatus;

    fn status(record: &Record<Self>, _: &ApiState, world: &World) -> Option<HostStatus> {
        let host = world.desired.hosts.get(&record.name)?;
        Some(status::host_status(host, &world.observed))
    }

    fn unseen(_: &Record<Self>) -> HostStatus {
        HostStatus { state: HostSeen::unseen().state.to_string(), ..HostStatus::default() }
    }

    /// Nobody waits for a machine.
    fn is_settled(_: &HostStatus) -> bool {
        true
    }
}

/// All hosts, by name. The machine that Weir runs on is `local`.
#[utoipa::path(get, path = "/v1/hosts", params(PageQuery),
    responses((status = 200, body = List<HostResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Answer {
    state.list::<Host>(&query).await
}

/// One host.
#[utoipa::path(get, path = "/v1/hosts/{name}",
    responses((status = 200, body = HostResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(call: Call) -> Answer {
    call.read::<Host>().await
}

/// Makes a host what is written here, new or not.
#[utoipa::path(put, path = "/v1/hosts/{name}", request_body = HostManifest,
    responses((status = 200, body = HostResource), (status = 201, body = HostResource),
        (status = 412, body = ProblemDetails), (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(call: Call) -> Answer {
    call.put::<Host>().await
}

/// Deletes a host. Refused while something is on it, unless it is a drained one that was lost.
#[utoipa::path(delete, path = "/v1/hosts/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    let (name, world) = (call.name::<Host>()?, call.state.world());
    let is_lost = world.observed.host(&name).state == HostState::Lost;
    let is_draining = world.desired.hosts.get(&name).is_some_and(|host| host.draining);
    let left = world.observed.instances.keys().filter(|id| id.host == name).count();
    if left > 0 && !(is_lost && is_draining) {
        let detail = format!(
            "{left} instances are on the host `{name}`; drain it first: weir host drain {name}"
        );
        return Err(ApiProblem::conflict("host_in_use", detail));
    }
    call.delete::<Host>().await
}

/// Places nothing new on a host; what it has stays.
#[utoipa::path(post, path = "/v1/hosts/{name}/actions/cordon",
    responses((status = 200, body = HostResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn cordon(call: Call) -> Answer {
    act(call, |spec| spec.cordoned = true).await
}

/// Places instances on a host again.
#[utoipa::path(post, path = "/v1/hosts/{name}/actions/uncordon",
    responses((status = 200, body = HostResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn uncordon(call: Call) -> Answer {
    act(call, |spec| (spec.cordoned, spec.draining) = (false, false)).await
}

/// Places nothing new on a host, and moves what it has to others.
#[utoipa::path(post, path = "/v1/hosts/{name}/actions/drain",
    responses((status = 200, body = HostResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn drain(call: Call) -> Answer {
    act(call, |spec| (spec.cordoned, spec.draining) = (true, true)).await
}

/// Changes what is written of a host, as it is now: what somebody else changes meanwhile is not
/// undone.
async fn act(call: Call, change: impl FnOnce(&mut HostSpec)) -> Answer {
    let record = call.state.store.read::<Host>(&call.name::<Host>()?).await?;
    let (kind, name) = ("Host".to_owned(), record.name.to_string());
    let mut manifest = HostManifest { kind, name, spec: record.spec };
    change(&mut manifest.spec);
    let host = Host::from_manifest(&manifest)?;
    let (holds, cause) = (Precondition::Revision(record.meta.revision), call.cause(Verb::Put));
    let written = call.state.store.put(&manifest.spec, &host, holds, cause).await?;
    let operation = written.operation.as_ref();
    call.answer(StatusCode::OK, written.record, operation, Host::is_settled).await
}

/// Tells which instances are on other hosts than they would be placed on now, and brings them
/// there: each is ready at its new place before it leaves the former one.
#[utoipa::path(post, path = "/v1/hosts/actions/converge", request_body = ConvergeRequest,
    responses((status = 200, body = List<DriftResource>)))]
pub(crate) async fn converge(call: Call) -> Answer {
    bring_home(&call, None).await
}

/// The same for the apps that are placed on a shard's hosts.
#[utoipa::path(post, path = "/v1/shards/{name}/actions/converge", request_body = ConvergeRequest,
    responses((status = 200, body = List<DriftResource>), (status = 404, body = ProblemDetails)))]
pub(crate) async fn converge_shard(call: Call) -> Answer {
    let shard = call.state.store.read::<Shard>(&call.name::<Shard>()?).await?;
    bring_home(&call, Some(&shard)).await
}

/// The operation outlives a restart, and ends when every instance is there.
async fn bring_home(call: &Call, shard: Option<&Record<Shard>>) -> Answer {
    let ConvergeRequest { dry_run } = call.request()?;
    let items = status::drift(shard.map(|shard| &shard.name), &call.state.world());
    let answer = Json(List::<DriftResource>::whole(items)).into_response();
    if dry_run {
        return Ok(answer);
    }
    let target = shard.map_or_else(Target::everything, Record::target);
    let operation = call.state.store.act(call.cause(Verb::Converge), target).await?;
    Ok(with_operation(answer, Some(&operation)))
}
