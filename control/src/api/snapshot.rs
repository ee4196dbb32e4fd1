//! `/v1/snapshot`: what is served, and what is kept from being served.

use axum::{Json, extract::State, http::StatusCode};

use super::{
    ApiState,
    problem::ApiProblem,
    wire::{RefusalResource, SnapshotResource},
};
use crate::{event::Event, gate::Cause};

/// The served snapshot, and whose change is not served.
#[utoipa::path(get, path = "/v1/snapshot", responses((status = 200, body = SnapshotResource)))]
pub(crate) async fn read(State(state): State<ApiState>) -> Json<SnapshotResource> {
    let world = state.world();
    let served = &world.observed.served;
    let refusals = world.refusals.iter().map(|(subject, refusal)| RefusalResource {
        subject: subject.to_string(),
        cause: match refusal.cause {
            Cause::Broken => "broken",
            Cause::Held { .. } => "held",
            Cause::Quarantined { .. } => "quarantined",
        }
        .to_owned(),
        message: refusal.message.clone(),
        seconds: weir_config::Moment::now().since(refusal.since).as_secs(),
    });
    Json(SnapshotResource {
        generation: served.generation,
        revision: served.revision,
        host_names: served.host_count() as u64,
        refused: refusals.collect(),
    })
}

/// Lets a loss through that is held because nobody has asked for it.
#[utoipa::path(post, path = "/v1/snapshot/actions/confirm", responses((status = 202)))]
pub(crate) async fn confirm(State(state): State<ApiState>) -> Result<StatusCode, ApiProblem> {
    let sent = state.events.send(Event::SnapshotConfirmed).await;
    sent.map_err(|_| ApiProblem::unavailable("Weir is shutting down"))?;
    Ok(StatusCode::ACCEPTED)
}
