//! What gRPC asks of a proxy that answers by itself: a status of its own kind, in the header of an
//! answer that says 200, because its clients take every other for a broken connection
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::fmt::Write as _;

use http::{HeaderMap, StatusCode, Version, header};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};

use crate::{context::RequestId, pages::Refusal};

const STATUS: &str = "grpc-status";

/// Whether the client speaks gRPC, and not gRPC-Web, which is ordinary HTTP.
pub(crate) fn is_call(request: &RequestHeader) -> bool {
    let kind = request.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let rest = kind.strip_prefix(b"application/grpc");
    request.version == Version::HTTP_2
        && rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// An answer without a body: its header is its trailer too.
pub(crate) fn refusal(refusal: &Refusal, request_id: RequestId) -> Result<ResponseHeader> {
    let mut response = ResponseHeader::build(StatusCode::OK, Some(5))?;
    response.insert_header(header::CONTENT_TYPE, "application/grpc")?;
    response.insert_header(STATUS, code(refusal.status()).to_string())?;
    response.insert_header("grpc-message", percent_encoded(&refusal.message()))?;
    response.insert_header("X-Request-Id", request_id.to_string())?;
    if let Some(seconds) = refusal.retry_after() {
        response.insert_header(header::RETRY_AFTER, seconds)?;
    }
    Ok(response)
}

/// The status in the header or trailer of an answer, if it has one.
pub(crate) fn status(headers: &HeaderMap) -> Option<u8> {
    headers.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// gRPC's own mapping (its `doc/http-grpc-status-mapping.md`).
fn code(status: StatusCode) -> u8 {
    const UNKNOWN: u8 = 2;
    const PERMISSION_DENIED: u8 = 7;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// What is not printable ASCII, and the percent sign.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte.into()),
            // Writing to a string cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_by_its_content_type() {
        let is = |kind: &str| {
            let mut request = RequestHeader::build("POST", b"/", None).unwrap();
            request.set_version(Version::HTTP_2);
            request.insert_header("content-type", kind.to_owned()).unwrap();
            is_call(&request)
        };
        assert!(is("application/grpc") && is("application/grpc+proto"));
        assert!(!is("application/grpc-web") && !is("application/json") && !is(""));
    }

    #[test]
    fn a_message_is_percent_encoded() {
        assert_eq!(percent_encoded("100 % ü\n"), "100 %25 %C3%BC%0A");
    }
}
