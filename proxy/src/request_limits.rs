//! What an app's policy turns away at the door, before the request is held, wakes anything or
//! reaches an instance.

use std::time::{Duration, Instant};

use http::header;
use pingora::{Error, ErrorType, Result, proxy::Session};
use weir_config::{AppRoute, Incident, Moment};

use crate::{asked::Asked, context::Context, pages::Refusal};

/// A client that takes or sends less than this is taken for one that means harm, as by Apache's
/// `mod_reqtimeout`.
pub(crate) const MIN_BYTES_PER_SECOND: f64 = 500.0;

/// How long a client may take for a body's first bytes, which a good one may find slow.
const BODY_GRACE: Duration = Duration::from_secs(10);

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
    if ctx.body > route.policy.limits.body {
        ctx.refusal = Some(body_too_large(route));
        return Error::e_explain(ErrorType::HTTPStatus(413), "the body is too large");
    }
    let has_length = session.req_header().headers.contains_key(header::CONTENT_LENGTH);
    let begun = ctx.timeline.connected.filter(|_| has_length);
    if begun.is_some_and(|begun| is_too_slow(ctx.body, begun.elapsed())) {
        return Error::e_explain(ErrorType::ReadTimedout, "the body comes too slowly")
            .map_err(|error: Box<Error>| error.into_down());
    }
    Ok(())
}

/// Whether a body whose length was told is drawn out: so much of it has come in such a time. One
/// without a length may be a stream, which has pauses.
fn is_too_slow(body: u64, elapsed: Duration) -> bool {
    elapsed > BODY_GRACE && (body as f64) < MIN_BYTES_PER_SECOND * elapsed.as_secs_f64()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_too_slow_below_the_floor_and_not_at_its_beginning() {
        for (body, seconds, too_slow) in
            [(0, 10, false), (5_000, 11, true), (5_500, 11, false), (29_999, 60, true)]
        {
            assert_eq!(is_too_slow(body, Duration::from_secs(seconds)), too_slow, "{body}");
        }
    }
}
