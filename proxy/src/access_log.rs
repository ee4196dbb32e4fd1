//! One event for each request, at the end of it.

use std::net::IpAddr;

use http::{StatusCode, Version};
use pingora::{Error, proxy::Session};
use weir_config::SleepLevel;

use crate::{context::Context, grpc, host::authority_of};

/// Logged for a client that left before an answer began, as nginx does.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Counts the request, and writes it under the target `access`.
///
/// The path is logged without its query: queries carry tokens and search terms, and logs are kept.
pub(crate) fn record(session: &Session, error: Option<&Error>, ctx: &Context) {
    let took = ctx.arrived.elapsed();
    let status = final_status(session).map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16());
    if let Some(route) = &ctx.route {
        route.activity.served(status, took);
    }
    let request = session.req_header();
    tracing::info!(
        target: "access",
        method = request.method.as_str(),
        host = authority_of(request),
        path = request.uri.path(),
        status,
        duration_ms = took.as_micros() as f64 / 1000.0,
        app = ctx.route.as_deref().map(|route| &*route.app),
        instance = ctx.endpoint.as_ref().map(|endpoint| display(&endpoint.id)),
        generation = ctx.generation,
        wake = ctx.wake.map_or("none", SleepLevel::as_str),
        held_ms = ctx.held.as_millis() as u64,
        bytes_sent = session.body_bytes_sent(),
        client_ip = client_ip(session).map(display),
        grpc_status = grpc_status(session, ctx),
        protocol = protocol(request.version),
        request_id = %ctx.request_id,
        error = error.map(display),
    );
}

/// A status in the header is that of an answer without a body, ours included.
fn grpc_status(session: &Session, ctx: &Context) -> Option<u8> {
    ctx.grpc_status.or_else(|| grpc::status(&session.response_written()?.headers))
}

/// The status that the client was sent, if it was: 1xx announces one, except where it changes the
/// protocol.
pub(crate) fn final_status(session: &Session) -> Option<StatusCode> {
    let status = session.response_written()?.status;
    (!status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS).then_some(status)
}

/// Who asks. An IPv4 client of an IPv6 listener is told as what it is.
pub(crate) fn client_ip(session: &Session) -> Option<IpAddr> {
    Some(session.client_addr()?.as_inet()?.ip().to_canonical())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/1.0",
    }
}
