//! The access log: one line for each request, at the end of it. `docs/observability.md` says what
//! its fields mean.

mod line;
mod writer;

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use http::{StatusCode, Version};
use pingora::{Error, proxy::Session};
use weir_config::{LogFormat, SleepLevel};

use self::line::Line;
pub use self::writer::{AccessLog, AccessLogGuard};
use crate::{
    connection::{self, Connection},
    context::{Context, RequestId},
    grpc,
    host::authority_of,
    tls::ClientCertificate,
};

/// Logged for a client that left before an answer began, as nginx does.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Counts the request, and writes it.
///
/// The path is logged without its query: queries carry tokens and search terms, and logs are kept.
pub(crate) fn record(
    log: Option<&AccessLog>,
    session: &Session,
    error: Option<&Error>,
    ctx: &Context,
) {
    let took = ctx.timeline.arrived.elapsed();
    let status = final_status(session).map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16());
    if let Some(route) = &ctx.route {
        route.activity.served(status, took);
    }
    let Some(log) = log else { return };
    let request = session.req_header();
    let certificate = connection::of(session).and_then(Connection::client_certificate);
    let entry = Entry {
        method: Some(request.method.as_str()),
        host: authority_of(request),
        path: Some(request.uri.path()),
        status,
        grpc_status: grpc_status(session, ctx),
        duration: took,
        first_byte: ctx.timeline.after_arrival(ctx.timeline.answered),
        app: ctx.route.as_deref().map(|route| &*route.app),
        instance: ctx.endpoint.as_ref().map(|endpoint| &endpoint.id),
        generation: ctx.generation,
        wake: ctx.wake,
        held: ctx.held,
        attempts: ctx.attempts.tries,
        bytes_received: session.body_bytes_read() as u64,
        bytes_sent: session.body_bytes_sent() as u64,
        client_ip: ctx.client.ip,
        connection_requests: connection::of(session).map_or(0, Connection::requests),
        client_cert_sha256: certificate.map(ClientCertificate::fingerprint),
        https: ctx.client.https,
        protocol: protocol(request.version),
        request_id: ctx.request_id,
        error: error.map(ToString::to_string).or_else(|| ctx.reason.clone()),
    };
    log.append(|buffer, format| entry.write(buffer, format, SystemTime::now()));
}

/// Writes what is known of a request that was answered with this status before it was one: its
/// header cannot be read, is too large or came too slowly, or its method is CONNECT.
pub(crate) fn record_unread(log: &AccessLog, connection: &Connection, status: u16) {
    let certificate = connection.client_certificate();
    let entry = Entry {
        method: None,
        host: None,
        path: None,
        status,
        grpc_status: None,
        duration: connection.since().elapsed(),
        first_byte: None,
        app: None,
        instance: None,
        generation: 0,
        wake: None,
        held: Duration::ZERO,
        attempts: 0,
        bytes_received: 0,
        bytes_sent: 0,
        client_ip: Some(connection.client_ip()),
        connection_requests: connection.requests() + 1,
        client_cert_sha256: certificate.map(ClientCertificate::fingerprint),
        https: connection.tls.is_some(),
        protocol: "HTTP/1.1",
        request_id: RequestId(rand::random()),
        error: Some("the header is not that of a request that can be served".to_owned()),
    };
    log.append(|buffer, format| entry.write(buffer, format, SystemTime::now()));
}

/// What a line says; `None` is left out of it.
struct Entry<'a> {
    method: Option<&'a str>,
    host: Option<&'a str>,
    path: Option<&'a str>,
    status: u16,
    grpc_status: Option<u8>,
    duration: Duration,
    first_byte: Option<Duration>,
    app: Option<&'a str>,
    instance: Option<&'a weir_config::EndpointId>,
    generation: u64,
    wake: Option<SleepLevel>,
    held: Duration,
    attempts: u32,
    bytes_received: u64,
    bytes_sent: u64,
    client_ip: Option<IpAddr>,
    connection_requests: u64,
    client_cert_sha256: Option<String>,
    https: bool,
    protocol: &'static str,
    request_id: RequestId,
    error: Option<String>,
}

impl Entry<'_> {
    fn write(&self, buffer: &mut Vec<u8>, format: LogFormat, now: SystemTime) {
        let mut line = Line::begin(buffer, format, now);
        self.method.inspect(|method| line.text("method", method));
        self.host.inspect(|host| line.text("host", host));
        self.path.inspect(|path| line.text("path", path));
        line.number("status", self.status.into());
        self.grpc_status.inspect(|status| line.number("grpc_status", (*status).into()));
        line.millis("duration_ms", self.duration);
        self.first_byte.inspect(|after| line.millis("first_byte_ms", *after));
        self.app.inspect(|app| line.plain("app", app));
        self.instance.inspect(|instance| line.plain("instance", instance));
        line.number("generation", self.generation);
        line.plain("wake", self.wake.map_or("none", SleepLevel::as_str));
        line.millis("held_ms", self.held);
        line.number("attempts", self.attempts.into());
        line.number("bytes_received", self.bytes_received);
        line.number("bytes_sent", self.bytes_sent);
        self.client_ip.inspect(|ip| line.plain("client_ip", ip));
        line.number("connection_requests", self.connection_requests);
        self.client_cert_sha256
            .as_deref()
            .inspect(|sha256| line.plain("client_cert_sha256", sha256));
        line.plain("scheme", if self.https { "https" } else { "http" });
        line.plain("protocol", self.protocol);
        line.plain("request_id", self.request_id);
        self.error.as_deref().inspect(|error| line.text("error", error));
        line.end();
    }
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

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/1.0",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;
    use weir_config::{HostName, InstanceId};

    use super::*;
    use crate::documented;

    /// A line with every field there is.
    fn whole() -> Value {
        let (app, host) = ("a".parse().unwrap(), HostName::local());
        let id = InstanceId { app, deployment: 1, ordinal: 0, host }.into();
        let entry = Entry {
            method: Some("GET"),
            host: Some("a.example"),
            path: Some("/"),
            status: 200,
            grpc_status: Some(0),
            duration: Duration::from_micros(1_500),
            first_byte: Some(Duration::ZERO),
            app: Some("a"),
            instance: Some(&id),
            generation: 1,
            wake: Some(SleepLevel::Paused),
            held: Duration::ZERO,
            attempts: 1,
            bytes_received: 0,
            bytes_sent: 0,
            client_ip: Some(IpAddr::from([127, 0, 0, 1])),
            connection_requests: 1,
            client_cert_sha256: Some("00".to_owned()),
            https: true,
            protocol: "HTTP/2",
            request_id: RequestId(1),
            error: Some("said \"no\"".to_owned()),
        };
        let mut buffer = Vec::new();
        entry.write(&mut buffer, LogFormat::Json, SystemTime::UNIX_EPOCH);
        serde_json::from_slice(&buffer).unwrap()
    }

    #[test]
    fn every_field_is_documented_with_its_type_and_no_other_is() {
        let kind = |value: &Value| match value {
            Value::String(_) => "text".to_owned(),
            Value::Number(_) => "number".to_owned(),
            other => format!("{other}"),
        };
        let line = whole();
        let written: BTreeMap<String, String> = line
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), kind(value)))
            .collect();
        let documented: BTreeMap<String, String> = documented::table("Access log")
            .into_iter()
            .map(|row| (row[0].clone(), row[1].clone()))
            .collect();
        assert_eq!(written, documented);
    }
}
