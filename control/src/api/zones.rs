//! `/v1/zones`: the DNS zones that Weir answers for.

use axum::extract::State;
use serde_json::Value;
use weir_config::{HostedZone, Hostname, Problem, Problems, SEALED_PREFIX, ZoneManifest, ZoneSpec};

use super::{
    ApiState,
    call::{Answer, Call, Parsed, Shown},
    query::{PageQuery, Params},
    wait::WaitQuery,
    wire::{List, Phase, ProblemDetails, ZoneResource, ZoneStatus},
};
use crate::{reconciler::World, status, store::Record};

impl Shown for HostedZone {
    type Status = ZoneStatus;

    fn shown(mut spec: ZoneSpec) -> ZoneSpec {
        for key in spec.secondaries.iter_mut().filter_map(|secondary| secondary.key.as_mut()) {
            key.secret = None;
        }
        spec
    }

    fn status(record: &Record<Self>, _: &ApiState, world: &World) -> Option<ZoneStatus> {
        let zone = world.desired.zones.get(&record.name)?;
        Some(status::zone_status(zone, record.extra.names, world))
    }

    fn unseen(record: &Record<Self>) -> ZoneStatus {
        ZoneStatus {
            phase: Phase::Progressing,
            observed_generation: 0,
            serial: None,
            records: 0,
            names: record.extra.names,
            message: None,
        }
    }

    fn is_settled(status: &ZoneStatus) -> bool {
        status.phase.is_settled()
    }
}

impl Parsed for HostedZone {
    fn parse(value: Value, _: &Hostname) -> Result<(ZoneSpec, Self), Problems> {
        let (manifest, zone) = Self::read(value)?;
        let mut problems = Problems::default();
        for (i, secondary) in manifest.spec.secondaries.iter().enumerate() {
            let secret = secondary.key.as_ref().and_then(|key| key.secret.as_deref());
            if secret.is_some_and(|secret| secret.starts_with(SEALED_PREFIX)) {
                let pointer = format!("/spec/secondaries/{i}/key/secret");
                let message = "write the key's own secret, in base64";
                problems.push(Problem::new(pointer, "bad_secret", message));
            }
        }
        problems.or_value((manifest.spec, zone))
    }
}

/// All zones, by name.
#[utoipa::path(get, path = "/v1/zones", params(PageQuery),
    responses((status = 200, body = List<ZoneResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Answer {
    state.list::<HostedZone>(&query).await
}

/// One zone.
#[utoipa::path(get, path = "/v1/zones/{name}", params(WaitQuery),
    responses((status = 200, body = ZoneResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(call: Call) -> Answer {
    call.read::<HostedZone>().await
}

/// Makes a zone what is written here, new or not. Its records stay as they are.
#[utoipa::path(put, path = "/v1/zones/{name}", params(WaitQuery), request_body = ZoneManifest,
    responses((status = 200, body = ZoneResource), (status = 201, body = ZoneResource),
        (status = 412, body = ProblemDetails), (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(call: Call) -> Answer {
    let (mut spec, zone) = call.object::<HostedZone>()?;
    let holds = call.precondition()?;
    call.state.vault.seal_keys(&zone.name, &mut spec).await?;
    call.write(&spec, &zone, holds).await
}

/// Deletes a zone with its records.
#[utoipa::path(delete, path = "/v1/zones/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    call.delete::<HostedZone>().await
}
