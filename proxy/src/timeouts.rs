//! How long a request may take altogether.

use std::time::{Duration, Instant};

use pingora::{Error, ErrorType, Result, proxy::Session, upstreams::peer::HttpPeer};

use crate::{context::Context, pages::Refusal, upstream::is_web_socket};

/// Lets no wait of an attempt end later than the request's time, which begins with the first one.
///
/// Pingora has no clock for all of a request. So it is kept in two ways: a wait takes at most what
/// is left when the attempt begins, which is exact until the answer begins; from then on each piece
/// of a body is a look at the clock. An answer that falls silent near its end is cut by the former
/// bound, so up to that much late.
pub(crate) fn bound(session: &mut Session, peer: &mut HttpPeer, ctx: &mut Context) -> Result<()> {
    let total = ctx.route.as_ref().and_then(|route| route.policy.timeouts.total);
    let Some(total) = total else { return Ok(()) };
    let now = Instant::now();
    let left = ctx.deadline.get_or_insert_with(|| now + total).saturating_duration_since(now);
    if left.is_zero() {
        ctx.refusal = Some(Refusal::UpstreamTimeout);
        return Error::e_explain(ErrorType::HTTPStatus(504), "the request's time is over");
    }
    let at_most = |bound: Option<Duration>| Some(bound.map_or(left, |bound| bound.min(left)));
    let options = &mut peer.options;
    options.connection_timeout = at_most(options.connection_timeout);
    options.total_connection_timeout = at_most(options.total_connection_timeout);
    if is_web_socket(session) {
        // Its waits may become a tunnel's, which has no time altogether.
        return Ok(());
    }
    options.read_timeout = at_most(options.read_timeout);
    options.write_timeout = at_most(options.write_timeout);
    session.set_read_timeout(options.read_timeout);
    session.set_write_timeout(options.write_timeout);
    Ok(())
}

/// Fails once the request's time is over. A tunnel's never is.
pub(crate) fn check(session: &Session, ctx: &Context) -> Result<()> {
    if ctx.is_late(Duration::ZERO) && !session.was_upgraded() {
        return Error::e_explain(ErrorType::ReadTimedout, "the request's time is over")
            .map_err(|error: Box<Error>| error.into_up());
    }
    Ok(())
}

/// Whether an instance was waited for too long.
pub(crate) fn is_timeout(error: &Error, ctx: &Context) -> bool {
    matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout)
        || ctx.gate.as_ref().is_some_and(|gate| gate.has_expired())
}
