//! The headers that an app gets: who asked, and nothing that only strangers claim.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, header};
use pingora::{Result, http::RequestHeader, proxy::Session};

use crate::{
    claims, connection, context::Context, debug, host::authority_of, tls::ClientCertificate,
};

/// The client's certificate (RFC 9440).
const CLIENT_CERT: &str = "client-cert";

/// Replaces what strangers claim with what is known. `Host` stays as it came.
pub(crate) fn rewrite(session: &Session, request: &mut RequestHeader, ctx: &Context) -> Result<()> {
    while let Some(name) = request.headers.keys().find(|name| is_claim(name)).cloned() {
        request.remove_header(&name);
    }
    join_cookies(request)?;
    join_lengths(request)?;
    if let Some(ip) = ctx.client.ip {
        request.insert_header("X-Forwarded-For", ip.to_string())?;
    }
    let scheme = if ctx.client.https { "https" } else { "http" };
    request.insert_header("X-Forwarded-Proto", scheme)?;
    if let Some(host) = authority_of(session.req_header()) {
        request.insert_header("X-Forwarded-Host", host)?;
    }
    if let Some(certificate) = client_certificate(session, ctx) {
        request.insert_header(CLIENT_CERT, certificate.header.clone())?;
    }
    request.insert_header("X-Request-Id", ctx.request_id.to_string())
}

/// Who asks, by a certificate. Only an app that wants to know is told: to the others it would be
/// a name for their client that they had not asked for.
fn client_certificate<'a>(session: &'a Session, ctx: &Context) -> Option<&'a ClientCertificate> {
    ctx.route.as_ref()?.policy.client_auth.as_ref()?;
    connection::of(session)?.client_certificate()
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Client {
    pub(crate) ip: Option<IpAddr>,
    /// Whether over TLS.
    pub(crate) https: bool,
}

impl Client {
    /// As the connection shows it, or, over a trusted proxy's, as that says.
    pub(crate) fn of(session: &Session) -> Self {
        let Some(connection) = connection::of(session) else { return Self::default() };
        let (ip, https) = (connection.client_ip(), connection.tls.is_some());
        if !connection.is_trusted() {
            return Self { ip: Some(ip), https };
        }
        let headers = &session.req_header().headers;
        let claimed = claims::client(headers, |address| connection.trusts(address));
        let https = claims::is_https(headers).unwrap_or(https);
        Self { ip: claimed.or(Some(ip)), https }
    }
}

/// The headers that only we may write.
const CLAIMS: [&str; 6] =
    ["forwarded", "x-real-ip", "x-request-id", CLIENT_CERT, "client-cert-chain", debug::REQUEST];

/// Whether only we may say this. Apps that get headers as CGI's variables cannot tell
/// `X_Forwarded_For` from `X-Forwarded-For`, so the one is as much a claim as the other.
fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is = |claim: &str| name.len() == claim.len() && begins_with(name, claim);
    begins_with(name, "x-forwarded-") || CLAIMS.into_iter().any(is)
}

/// With `_` read as `-`.
fn begins_with(name: &str, prefix: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(same)
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

/// The same length written twice is one length, but not everybody reads it so (RFC 9110, 8.6).
/// Pingora has refused lengths that differ.
fn join_lengths(request: &mut RequestHeader) -> Result<()> {
    let mut lengths = request.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    let digits = first.as_bytes().iter().take_while(|byte| byte.is_ascii_digit()).count();
    if lengths.next().is_none() && digits == first.len() {
        return Ok(());
    }
    let length = first.as_bytes()[..digits].to_vec();
    request.insert_header(header::CONTENT_LENGTH, length)
}
