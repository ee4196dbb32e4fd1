//! The host that a request asks for.

use std::borrow::Cow;

use http::header;
use pingora::http::RequestHeader;

/// The longest name that DNS can carry.
const MAX_NAME: usize = 253;

/// The host of a request as snapshots are asked for it: lowercase, without port and trailing dot.
/// `None` if the request has none, or none that could be a name.
pub(crate) fn host_of(request: &RequestHeader) -> Option<Cow<'_, str>> {
    authority_of(request).and_then(normalize)
}

/// The host as the client wrote it, port included.
pub(crate) fn authority_of(request: &RequestHeader) -> Option<&str> {
    // HTTP/2, and HTTP/1.1 with a whole URL as its target. Pingora has refused a differing `Host`.
    match request.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers.get(header::HOST)?.to_str().ok(),
    }
}

fn normalize(authority: &str) -> Option<Cow<'_, str>> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > MAX_NAME || !(is_name(host) || is_ipv6(host)) {
        return None;
    }
    // Nearly every client sends lowercase, and then nothing is copied.
    Some(match host.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    })
}

fn is_name(host: &str) -> bool {
    host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// No app is served at an address, but it is a host that may be asked for.
fn is_ipv6(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inside.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(authority: &str, host: Option<&str>) {
        assert_eq!(normalize(authority).as_deref(), host, "{authority}");
    }

    #[test]
    fn a_port_a_trailing_dot_and_case_do_not_matter() {
        check("blog.example.com", Some("blog.example.com"));
        check("Blog.Example.COM:8443", Some("blog.example.com"));
        check("blog.example.com.:443", Some("blog.example.com"));
        check("blog.example.com:", Some("blog.example.com"));
        check("10.0.0.1:80", Some("10.0.0.1"));
        check("[::1]:80", Some("[::1]"));
        check("[::1]", Some("[::1]"));
    }

    #[test]
    fn what_could_not_be_a_name_is_no_host() {
        for authority in [
            "", ":80", ".", "a b", "a/b", "a:b", "a@b", "é.com", "a:80:80", "[::1", "<script>",
            "*.a.com",
        ] {
            check(authority, None);
        }
        check(&"a".repeat(254), None);
    }

    #[test]
    fn a_lowercase_host_is_not_copied() {
        assert!(matches!(normalize("a.example.com:80"), Some(Cow::Borrowed(_))));
    }
}
