//! `/v1/instances`: what is there.

use axum::{Json, extract::State};

use super::{
    ApiState,
    wire::{InstanceResource, List},
};
use crate::status;

/// Every instance there is, also of apps that are being deleted.
#[utoipa::path(get, path = "/v1/instances", responses((status = 200, body = List<InstanceResource>)))]
pub(crate) async fn instances(State(state): State<ApiState>) -> Json<List<InstanceResource>> {
    let world = state.world();
    let instances = world.observed.instances.iter();
    let items =
        instances.map(|(id, instance)| status::instance(id, instance, &state.activity)).collect();
    Json(List::whole(items))
}
