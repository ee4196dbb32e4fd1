//! `/v1/snapshot`: what is served, and what is kept from being served.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};

use super::{
    ApiState,
    call::{Answer, Call},
    operations::with_operation,
    problem::ApiProblem,
    wire::{RefusalResource, SnapshotResource},
};
use crate::{
    event::Event,
    gate::Cause,
    store::{Target, Verb},
};

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

/// Lets a loss through that is held because nobody has asked for it, and what is in quarantine.
#[utoipa::path(post, path = "/v1/snapshot/actions/confirm", responses((status = 202)))]
pub(crate) async fn confirm(call: Call) -> Answer {
    let (state, cause) = (&call.state, call.cause(Verb::Confirm));
    let message = "what was held is let through".to_owned();
    let operation = state.store.act_done(cause, Target::everything(), message).await?;
    let sent = state.events.send(Event::SnapshotConfirmed).await;
    sent.map_err(|_| ApiProblem::unavailable("Weir is shutting down"))?;
    Ok(with_operation(StatusCode::ACCEPTED.into_response(), Some(&operation)))
}
