//! What an app's policy turns away at the door, before the request is held, wakes anything or
//! reaches an instance.

use std::time::Instant;

use pingora::{Error, ErrorType, Result, proxy::Session};
use weir_config::{AppRoute, Incident, Moment};

use crate::{asked::Asked, context::Context, pages::Refusal};

/// Checks a request that is already counted as in flight.
pub(crate) fn check(route: &AppRoute, asked: &Asked<'_>, arrived: Instant) -> Result<(), Refusal> {
    let (limits, activity) = (&route.policy.limits, &route.activity);
    if asked.body_length().is_some_and(|length| length > limits.body) {
        return Err(body_too_large(route));
    }
    if let (Some(rate), Some(client)) = (&limits.rate_per_client, asked.client)
        && let Err(wait) = activity.take_of_client(client, rate, Moment::nanos_at(arrived))
    {
        activity.count(Incident::ClientRateLimited);
        return Err(Refusal::ClientRateLimited { retry_after: wait });
    }
    if let Some(rate) = &limits.rate
        && let Err(wait) = activity.take(rate, Moment::nanos_at(arrived))
    {
        activity.count(Incident::RateLimited);
        return Err(Refusal::RateLimited { retry_after: wait });
    }
    if activity.load() > u64::from(limits.in_flight) {
        return Err(overloaded(route));
    }
    Ok(())
}

/// Checks the next piece of a body, whose length the client may not have told.
pub(crate) fn check_body(session: &Session, piece: &[u8], ctx: &mut Context) -> Result<()> {
    // What goes through a tunnel is no body.
    let Some(route) = ctx.route.as_ref().filter(|_| !session.was_upgraded()) else { return Ok(()) };
    ctx.body += piece.len() as u64;
    if ctx.body <= route.policy.limits.body {
        return Ok(());
    }
    ctx.refusal = Some(body_too_large(route));
    Error::e_explain(ErrorType::HTTPStatus(413), "the body is too large")
}

fn body_too_large(route: &AppRoute) -> Refusal {
    route.activity.count(Incident::BodyTooLarge);
    Refusal::BodyTooLarge { limit: route.policy.limits.body }
}

/// There is no queue for these: what cannot be worked off now would only be older later.
pub(crate) fn overloaded(route: &AppRoute) -> Refusal {
    route.activity.count(Incident::Overloaded);
    Refusal::Overloaded
}
