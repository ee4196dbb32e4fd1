//! One event for each request, at the end of it.

use http::{StatusCode, Version};
use pingora::{Error, proxy::Session};
use weir_config::SleepLevel;

use crate::{
    connection::{self, Connection},
    context::Context,
    forwarded::client_ip,
    host::authority_of,
    tls::ClientCertificate,
};

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
    let certificate = connection::of(session).and_then(Connection::client_certificate);
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
        connection_requests = connection::of(session).map(Connection::requests),
        client_cert_sha256 = certificate.map(ClientCertificate::fingerprint),
        protocol = protocol(request.version),
        request_id = %ctx.request_id,
        error = error.map(display),
    );
}

/// The status that the client was sent, if it was: 1xx announces one, except where it changes the
/// protocol.
pub(crate) fn final_status(session: &Session) -> Option<StatusCode> {
    let status = session.response_written()?.status;
    (!status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS).then_some(status)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/1.0",
    }
}
