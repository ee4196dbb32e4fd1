//! `/v1/zones`: the DNS zones that Weir answers for.

use axum::extract::State;
use serde_json::Value;
use weir_config::{HostedZone, Hostname, Problems, ZoneManifest, ZoneSpec};

use super::{
    ApiState,
    call::{Answer, Call, Shown},
    query::{PageQuery, Params},
    wait::WaitQuery,
    wire::{List, Phase, ProblemDetails, ZoneResource, ZoneStatus},
};
use crate::{reconciler::World, status, store::Record};

impl Shown for HostedZone {
    type Status = ZoneStatus;

    fn parse(value: Value, _: &Hostname) -> Result<(ZoneSpec, Self), Problems> {
        let (manifest, zone) = Self::read(value)?;
        Ok((manifest.spec, zone))
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
    call.put::<HostedZone>().await
}

/// Deletes a zone with its records.
#[utoipa::path(delete, path = "/v1/zones/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    call.delete::<HostedZone>().await
}
