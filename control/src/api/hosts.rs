//! `/v1/hosts`: the machines that instances run on.

use std::collections::BTreeSet;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use weir_config::{Host, HostManifest, HostName, HostSpec, ShardName};

use super::{
    ApiState,
    objects::{Answer, answer, json, named, parse_name, parse_or_default, precondition},
    problem::ApiProblem,
    wire::{ConvergeRequest, DriftResource, HostResource, List, ProblemDetails},
};
use crate::{
    event::Event,
    host::HostState,
    reconciler::World,
    status,
    store::{HostRecord, Kind, Precondition, StoreError, Token, Written},
};

/// All hosts, by name. The machine that Weir runs on is `local`.
#[utoipa::path(get, path = "/v1/hosts", responses((status = 200, body = List<HostResource>)))]
pub(crate) async fn list(State(state): State<ApiState>) -> Answer {
    let records = state.store.hosts().await?;
    let world = state.world();
    let is_local = |record: &HostRecord| record.manifest.name == *HostName::local();
    let written = records.iter().any(is_local);
    let mut items: Vec<_> = records.into_iter().map(|record| resource(&world, record)).collect();
    if !written {
        items.push(unwritten(&world));
        items.sort_by(|one, other| one.name.cmp(&other.name));
    }
    Ok(Json(List::<HostResource> { items }).into_response())
}

/// One host.
#[utoipa::path(get, path = "/v1/hosts/{name}",
    responses((status = 200, body = HostResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(State(state): State<ApiState>, Path(name): Path<String>) -> Answer {
    let name: HostName = parse_name(&name)?;
    let record = state.store.host(&name).await?;
    Ok(match record {
        Some(record) => shown(StatusCode::OK, resource(&state.world(), record)),
        None if name.is_local() => shown(StatusCode::OK, unwritten(&state.world())),
        None => return Err(StoreError::not_found(Kind::Host, &name).into()),
    })
}

/// Makes a host what is written here, new or not.
#[utoipa::path(put, path = "/v1/hosts/{name}", request_body = HostManifest,
    responses((status = 200, body = HostResource), (status = 201, body = HostResource),
        (status = 412, body = ProblemDetails), (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let (manifest, host) = Host::read(json(&body)?)?;
    named(&name, &manifest.name)?;
    state.write(&manifest, &host, precondition(&headers)?, &token).await
}

/// Cordons, uncordons or drains a host: the last path segment says what.
#[utoipa::path(post, path = "/v1/hosts/{name}/actions/{action}",
    responses((status = 200, body = HostResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn act(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path((name, action)): Path<(String, String)>,
) -> Answer {
    let name: HostName = parse_name(&name)?;
    let record = state.store.host(&name).await?;
    let revision = record.as_ref().map(|record| record.meta.revision);
    let mut manifest = match record {
        Some(record) => record.manifest,
        None if name.is_local() => manifest_of_local(),
        None => return Err(StoreError::not_found(Kind::Host, &name).into()),
    };
    (manifest.spec.cordoned, manifest.spec.draining) = match action.as_str() {
        "cordon" => (true, manifest.spec.draining),
        "drain" => (true, true),
        "uncordon" => (false, false),
        _ => {
            let why = "a host can be cordoned, uncordoned or drained";
            return Err(ApiProblem::not_found(why));
        }
    };
    let host = Host::from_manifest(&manifest)?;
    // What somebody else changes meanwhile is not undone.
    let precondition = revision.map_or(Precondition::New, Precondition::Revision);
    state.write(&manifest, &host, precondition, &token).await
}

/// Deletes a host. Refused unless it has been drained; of a lost one, what was on it is given up.
#[utoipa::path(delete, path = "/v1/hosts/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
) -> Answer {
    let name: HostName = parse_name(&name)?;
    let world = state.world();
    let is_lost = world.observed.host(&name).state == HostState::Lost;
    let is_draining = world.desired.hosts.get(&name).is_some_and(|host| host.draining);
    let left = world.observed.instances.keys().filter(|id| id.host == name).count();
    // The machine that Weir runs on stays a host; only what is written of it goes.
    if !name.is_local() && left > 0 && !(is_lost && is_draining) {
        let detail = format!(
            "{left} instances are on the host `{name}`; drain it first (`weir host drain {name}`)"
        );
        return Err(ApiProblem::conflict("host_in_use", detail));
    }
    state.store.delete_host(&name, &token.id).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Tells which instances are on other hosts than they would be placed on now, and brings them
/// there: each is ready at its new place before it leaves the former one. Asked again, it goes on.
#[utoipa::path(post, path = "/v1/hosts/actions/converge", request_body = ConvergeRequest,
    responses((status = 200, body = List<DriftResource>)))]
pub(crate) async fn converge(State(state): State<ApiState>, body: Bytes) -> Answer {
    state.converge(None, &parse_or_default(&body)?).await
}

/// The same for the apps that are placed on a shard's hosts.
#[utoipa::path(post, path = "/v1/shards/{name}/actions/converge", request_body = ConvergeRequest,
    responses((status = 200, body = List<DriftResource>), (status = 404, body = ProblemDetails)))]
pub(crate) async fn converge_shard(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let name: ShardName = parse_name(&name)?;
    if state.store.shard(&name).await?.is_none() {
        return Err(StoreError::not_found(Kind::Shard, &name).into());
    }
    state.converge(Some(&name), &parse_or_default(&body)?).await
}

impl ApiState {
    async fn write(
        &self,
        manifest: &HostManifest,
        host: &Host,
        precondition: Precondition,
        token: &Token,
    ) -> Answer {
        let written = self.store.put_host(manifest, host, precondition, &token.id).await?;
        let Written { record, created, .. } = written;
        self.caught_up(record.meta.revision).await;
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(shown(status, resource(&self.world(), record)))
    }

    async fn converge(&self, shard: Option<&ShardName>, request: &ConvergeRequest) -> Answer {
        let items = status::drift(shard.map(|name| &**name), &self.world());
        if !request.dry_run && !items.is_empty() {
            let apps: BTreeSet<_> = items.iter().filter_map(|item| item.app.parse().ok()).collect();
            let asked = self.events.send(Event::ConvergeWanted(apps.into_iter().collect()));
            if asked.await.is_err() {
                return Err(ApiProblem::unavailable("the process is about to end"));
            }
        }
        Ok(Json(List::<DriftResource> { items }).into_response())
    }
}

fn resource(world: &World, record: HostRecord) -> HostResource {
    let (name, host) = match record.manifest.name.parse::<HostName>() {
        Ok(name) => (name.clone(), world.desired.hosts.get(&name)),
        Err(_) => (HostName::local(), None),
    };
    HostResource {
        status: status::host_status(&name, host.map(|host| &**host), &world.observed),
        kind: record.manifest.kind,
        name: record.manifest.name,
        generation: record.meta.generation,
        revision: record.meta.revision,
        spec: record.manifest.spec,
    }
}

/// The machine that Weir runs on, of which nobody has written anything.
fn unwritten(world: &World) -> HostResource {
    let HostManifest { kind, name, spec } = manifest_of_local();
    let status = status::host_status(&HostName::local(), None, &world.observed);
    HostResource { kind, name, generation: 0, revision: 0, spec, status }
}

fn manifest_of_local() -> HostManifest {
    let name = HostName::local().to_string();
    HostManifest { kind: Kind::Host.as_str().to_owned(), name, spec: HostSpec::default() }
}

fn shown(status: StatusCode, resource: HostResource) -> Response {
    answer(status, resource.revision, resource)
}
