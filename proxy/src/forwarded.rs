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
    if let Some(ip) = client_ip(session) {
        request.insert_header("X-Forwarded-For", ip.to_string())?;
    }
    let scheme = if is_https(session) { "https" } else { "http" };
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

/// Who asks.
pub(crate) fn client_ip(session: &Session) -> Option<IpAddr> {
    let connection = connection::of(session)?;
    let claimed = connection.is_trusted().then(|| {
        claims::client(&session.req_header().headers, |address| connection.trusts(address))
    });
    Some(claimed.flatten().unwrap_or_else(|| connection.client_ip()))
}

/// Whether the client asks over TLS.
pub(crate) fn is_https(session: &Session) -> bool {
    connection::of(session).is_some_and(|connection| {
        let headers = &session.req_header().headers;
        let claimed = connection.is_trusted().then(|| claims::is_https(headers)).flatten();
        claimed.unwrap_or_else(|| connection.tls.is_some())
    })
}

/// What only we may say, beside everything that begins with [`X_FORWARDED`].
const CLAIMS: [&str; 6] =
    ["forwarded", "x-real-ip", "x-request-id", CLIENT_CERT, "client-cert-chain", debug::REQUEST];
const X_FORWARDED: &str = "x-forwarded-";

/// Whether only we may say this. An app that is given headers as variables, as with CGI, does not
/// see whether there was a hyphen or an underscore.
fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let begins = |claim: &str| {
        name.len() >= claim.len()
            && name.iter().zip(claim.bytes()).all(|(b, c)| *b == c || (*b == b'_' && c == b'-'))
    };
    begins(X_FORWARDED) || CLAIMS.iter().any(|claim| name.len() == claim.len() && begins(claim))
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
