//! What the proxy answers by itself. Nothing of the inside shows: no address, no error's text.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora::{Result, http::ResponseHeader, proxy::Session};

use crate::{context::RequestId, grpc};

/// Why a request gets no answer of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequest,
    BadHost,
    Misdirected,
    /// It has passed here before.
    Loop,
    RequestTimeout,
    UnknownHost(Box<str>),
    /// The same is served by another name of the app.
    Moved {
        location: Box<str>,
    },
    /// The app does not take calls by the one that makes this one.
    NotAllowed,
    Unavailable {
        /// For the operator; no stranger is told.
        reason: String,
        retry_after: Duration,
    },
    QueueFull,
    StillWaking,
    /// More than the app's instances may have at once.
    Overloaded,
    RateLimited {
        retry_after: Duration,
    },
    ClientRateLimited {
        retry_after: Duration,
    },
    BodyTooLarge {
        /// In bytes.
        limit: u64,
    },
    /// This process ends; another may be there in a moment.
    Stopping,
    ConnectFailed,
    /// No TLS with the instance, or not with whom it should be. The access log says why.
    UpstreamUntrusted,
    UpstreamFailed,
    UpstreamTimeout,
    Internal,
}

impl Refusal {
    pub(crate) fn no_endpoint() -> Self {
        let retry_after = Duration::from_secs(1);
        Self::Unavailable { reason: "No instance of this app is ready.".to_owned(), retry_after }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest | Self::BadHost => StatusCode::BAD_REQUEST,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnknownHost(_) => StatusCode::NOT_FOUND,
            // It keeps the method and the body.
            Self::Moved { .. } => StatusCode::PERMANENT_REDIRECT,
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::RateLimited { .. } | Self::ClientRateLimited { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable { .. }
            | Self::QueueFull
            | Self::StillWaking
            | Self::Overloaded
            | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectFailed | Self::UpstreamUntrusted | Self::UpstreamFailed => {
                StatusCode::BAD_GATEWAY
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// For programs; does not change.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BadHost => "bad_host",
            Self::Misdirected => "misdirected",
            Self::Loop => "loop",
            Self::RequestTimeout => "request_timeout",
            Self::UnknownHost(_) => "unknown_host",
            Self::Moved { .. } => "moved",
            Self::NotAllowed => "not_allowed",
            Self::Unavailable { .. } => "unavailable",
            Self::QueueFull => "queue_full",
            Self::StillWaking => "still_waking",
            Self::Overloaded => "overloaded",
            Self::RateLimited { .. } => "rate_limited",
            Self::ClientRateLimited { .. } => "client_rate_limited",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Stopping => "stopping",
            Self::ConnectFailed => "connect_failed",
            Self::UpstreamUntrusted => "upstream_untrusted",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Internal => "internal",
        }
    }

    /// For the access log, where the message to the client does not say all.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Unavailable { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// For people.
    pub(crate) fn message(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::BadRequest => "The request is malformed.",
            Self::BadHost => "The request does not say which host it is for.",
            Self::Misdirected => "This connection was made for another host.",
            Self::Loop => "The request has been sent round in a circle.",
            Self::RequestTimeout => "The request did not arrive in time.",
            Self::UnknownHost(host) => {
                return Cow::Owned(format!("No app is served at {host}. Is the name right?"));
            }
            Self::Moved { location } => return Cow::Owned(format!("This is at {location}.")),
            Self::NotAllowed => {
                "The app that is called does not allow this one to call it (`private: {allow: …}`)."
            }
            Self::Unavailable { .. } => {
                "This app cannot be served at the moment. Try again in a few seconds. If it stays \
                 so, tell whoever runs it, with the number of this request."
            }
            Self::QueueFull => "Too many requests wait for this app to wake.",
            Self::StillWaking => "The app is still waking. Try again in a few seconds.",
            Self::Overloaded => "The app is busy. Try again in a moment.",
            Self::RateLimited { .. } => "Too many requests are sent to this app. Try again later.",
            Self::ClientRateLimited { .. } => "You send too many requests. Try again later.",
            Self::BodyTooLarge { limit } => {
                return Cow::Owned(format!("The app takes at most {limit} bytes in one request."));
            }
            Self::Stopping => "The server is restarting. Try again in a moment.",
            Self::ConnectFailed => "The app does not accept connections.",
            Self::UpstreamUntrusted => "The app does not prove who it is.",
            Self::UpstreamFailed => "The app did not answer properly.",
            Self::UpstreamTimeout => "The app did not answer in time.",
            Self::Internal => "The proxy failed.",
        })
    }

    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Unavailable { retry_after, .. }
            | Self::RateLimited { retry_after }
            | Self::ClientRateLimited { retry_after } => {
                // Whole seconds, never "at once".
                Some(retry_after.as_millis().div_ceil(1000).max(1) as u64)
            }
            Self::QueueFull | Self::Overloaded | Self::Stopping => Some(1),
            Self::StillWaking => Some(5),
            _ => None,
        }
    }
}

/// Answers with a small page, in HTML, JSON or plain text, as the client accepts; a client of gRPC
/// gets a gRPC status.
pub(crate) async fn answer(
    session: &mut Session,
    refusal: &Refusal,
    request_id: RequestId,
) -> Result<()> {
    if *refusal == Refusal::Stopping {
        session.set_keepalive(None);
    }
    if grpc::is_call(session.req_header()) {
        let response = grpc::refusal(refusal, request_id)?;
        return session.write_response_header(Box::new(response), true).await;
    }
    let accept = session.req_header().headers.get(header::ACCEPT);
    let format = Format::of(accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default());
    let body = format.render(refusal, request_id);
    let mut response = ResponseHeader::build(refusal.status(), Some(8))?;
    response.insert_header(header::CONTENT_TYPE, format.content_type())?;
    if let Refusal::Moved { location } = refusal {
        response.insert_header(header::LOCATION, &**location)?;
    } else {
        response.insert_header(header::CACHE_CONTROL, "no-store")?;
    }
    response.insert_header("X-Request-Id", request_id.to_string())?;
    if let Some(seconds) = refusal.retry_after() {
        response.insert_header(header::RETRY_AFTER, seconds)?;
    }
    send(session, response, Bytes::from(body)).await
}

/// Sends a client to where the same is served over HTTPS; 308 keeps the method and the body.
pub(crate) async fn redirect(session: &mut Session, location: String) -> Result<()> {
    let mut response = ResponseHeader::build(StatusCode::PERMANENT_REDIRECT, Some(4))?;
    response.insert_header(header::LOCATION, location)?;
    send(session, response, Bytes::new()).await
}

/// Answers with a text that is no page.
pub(crate) async fn plain(session: &mut Session, text: Bytes) -> Result<()> {
    let mut response = ResponseHeader::build(StatusCode::OK, Some(4))?;
    response.insert_header(header::CONTENT_TYPE, "text/plain")?;
    response.insert_header(header::CACHE_CONTROL, "no-store")?;
    send(session, response, text).await
}

async fn send(session: &mut Session, mut response: ResponseHeader, body: Bytes) -> Result<()> {
    response.insert_header(header::CONTENT_LENGTH, body.len())?;
    let no_body = body.is_empty() || session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(response), no_body).await?;
    session.write_response_body((!no_body).then_some(body), true).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Html,
    Json,
    Text,
}

impl Format {
    /// A browser names HTML, a program that wants JSON names it, and the rest can read text.
    fn of(accept: &str) -> Self {
        match accept {
            accept if accept.contains("text/html") => Self::Html,
            accept if accept.contains("json") => Self::Json,
            _ => Self::Text,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    fn render(self, refusal: &Refusal, request_id: RequestId) -> String {
        let (status, message) = (refusal.status(), refusal.message());
        let reason = status.canonical_reason().unwrap_or_default();
        let status = status.as_u16();
        match self {
            Self::Html => {
                let message = escape(&message);
                format!(
                    "<!doctype html><meta charset=utf-8>\
                     <meta name=viewport content=\"width=device-width\">\
                     <title>{status} {reason}</title>\
                     <body style=\"font:16px system-ui;max-width:36em;margin:15vh auto;padding:0 1em\">\
                     <h1>{status} {reason}</h1><p>{message}<p><small>Request {request_id}</small>\n"
                )
            }
            Self::Json => {
                let code = refusal.code();
                let request_id = request_id.to_string();
                let body = serde_json::json!({
                    "status": status, "code": code, "message": message, "request_id": request_id,
                });
                format!("{body}\n")
            }
            Self::Text => format!("{status} {reason}\n{message}\nRequest {request_id}\n"),
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_format_it_accepts() {
        assert_eq!(Format::of("text/html,application/xhtml+xml,*/*;q=0.8"), Format::Html);
        assert_eq!(Format::of("application/json"), Format::Json);
        assert_eq!(Format::of("application/problem+json"), Format::Json);
        assert_eq!(Format::of("*/*"), Format::Text);
        assert_eq!(Format::of(""), Format::Text);
    }

    #[test]
    fn a_reason_cannot_break_out_of_the_page() {
        assert_eq!(escape("<b> & </b>"), "&lt;b&gt; &amp; &lt;/b&gt;");
    }

    #[test]
    fn retry_after_is_in_whole_seconds_and_never_at_once() {
        let refusal = |millis| Refusal::Unavailable {
            reason: String::new(),
            retry_after: Duration::from_millis(millis),
        };
        assert_eq!(refusal(0).retry_after(), Some(1));
        assert_eq!(refusal(1001).retry_after(), Some(2));
    }
}
