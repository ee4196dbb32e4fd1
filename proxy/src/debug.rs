//! What a client may ask about its own request, with `Weir-Debug: 1`.
//!
//! Anybody may ask, so the answer names nothing of the inside: which snapshot the request met, to
//! which target of a failover policy it went, and where its time went. The instance is in the access
//! log, under the request's id.

use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};

use crate::context::Context;

/// The header that asks. Apps do not get it: it is not for them.
pub(crate) const REQUEST: &str = "weir-debug";

/// Adds what was asked for to the app's answer.
pub(crate) fn tell(
    request: &RequestHeader,
    response: &mut ResponseHeader,
    ctx: &Context,
) -> Result<()> {
    if request.headers.get(REQUEST).is_none_or(|value| value != "1") {
        return Ok(());
    }
    response.insert_header("Weir-Generation", ctx.generation)?;
    if let Some(target) = ctx.endpoint.as_ref().and_then(|endpoint| endpoint.id.target()) {
        response.insert_header("Weir-Target", &**target)?;
    }
    response.insert_header("X-Request-Id", ctx.request_id.to_string())?;
    // Beside the app's own, if it has some.
    response.append_header("Server-Timing", ctx.timeline.server_timing(ctx.held)).map(drop)
}
