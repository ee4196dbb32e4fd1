//! The headers that an app gets: who asked, and nothing that only strangers claim.

use http::{HeaderName, HeaderValue, header};
use pingora::{Result, http::RequestHeader, proxy::Session};

use crate::{
    access_log::client_ip, context::RequestId, debug, gateway::is_tls, host::authority_of,
};

/// Replaces what strangers claim with what is known. `Host` stays as it came.
pub(crate) fn rewrite(
    session: &Session,
    request: &mut RequestHeader,
    request_id: RequestId,
) -> Result<()> {
    while let Some(name) = request.headers.keys().find(|name| is_claim(name)).cloned() {
        request.remove_header(&name);
    }
    join_cookies(request)?;
    if let Some(ip) = client_ip(session) {
        request.insert_header("X-Forwarded-For", ip.to_string())?;
    }
    request.insert_header("X-Forwarded-Proto", if is_tls(session) { "https" } else { "http" })?;
    if let Some(host) = authority_of(session.req_header()) {
        request.insert_header("X-Forwarded-Host", host)?;
    }
    request.insert_header("X-Request-Id", request_id.to_string())
}

/// Whether only we may say this.
fn is_claim(name: &HeaderName) -> bool {
    let name_str = name.as_str();
    name == header::FORWARDED
        || name_str.starts_with("x-forwarded-")
        || matches!(name_str, "x-real-ip" | "x-request-id" | debug::REQUEST)
}

/// HTTP/2 clients may send each cookie in a header of its own; HTTP/1.1 has one header for all.
/// Pingora translates the one to the other as it is.
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let cookies = request.headers.get_all(header::COOKIE);
    if cookies.iter().nth(1).is_none() {
        return Ok(());
    }
    let parts: Vec<&[u8]> = cookies.iter().map(HeaderValue::as_bytes).collect();
    let joined = parts.join(&b"; "[..]);
    request.insert_header(header::COOKIE, joined)
}
