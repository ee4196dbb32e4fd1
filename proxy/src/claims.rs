//! What a proxy in front of us says of its client. Believed of those that an operator trusts, and
//! of nobody else.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client: the last address of the chain that is not of a trusted proxy. What stands before it
/// is what the client says, and anyone can say anything.
///
/// A proxy writes `X-Forwarded-For` or `Forwarded` (RFC 7239). If both are there and differ, one of
/// them came from the client and was passed on: neither is believed.
pub(crate) fn client(headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let by_x = client_of(elements(headers, &X_FORWARDED_FOR).map(address), &trusts);
    let forwarded = elements(headers, &header::FORWARDED);
    let by_rfc = client_of(forwarded.map(|text| address(parameter(text, "for")?)), &trusts);
    match (by_x, by_rfc) {
        (Some(x), Some(rfc)) => (x == rfc).then_some(x),
        (x, rfc) => x.or(rfc),
    }
}

/// Whether the client asked the proxy next to us over TLS; `None` if that does not say.
pub(crate) fn is_https(headers: &HeaderMap) -> Option<bool> {
    let by_x = elements(headers, &X_FORWARDED_PROTO).next();
    let by_rfc =
        || elements(headers, &header::FORWARDED).next().and_then(|text| parameter(text, "proto"));
    by_x.or_else(by_rfc).map(|scheme| scheme.eq_ignore_ascii_case("https"))
}

/// From the nearest to the farthest, until one is not trusted or cannot be read: whoever wrote
/// that one, it was not a trusted proxy's address.
fn client_of(
    chain: impl Iterator<Item = Option<IpAddr>>,
    trusts: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut client = None;
    for address in chain {
        let Some(address) = address else { break };
        client = Some(address);
        if !trusts(address) {
            break;
        }
    }
    client
}

/// The elements of a list that may be spread over several headers, the last first.
fn elements<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().rev();
    values.flat_map(|value: &HeaderValue| {
        value.to_str().unwrap_or_default().rsplit(',').map(str::trim)
    })
}

/// The value of one parameter of an element of `Forwarded`, without its quotes. An element in
/// which a quoted value holds a comma or a semicolon cannot be read, and none that matters does.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let value = element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(unquoted.unwrap_or(value))
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let alone = || {
        let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        inside.unwrap_or(text).parse::<IpAddr>().ok()
    };
    let address = alone().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(written: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = written
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    /// 10.0.0.0/8 is trusted.
    fn check(written: &[(&'static str, &'static str)], expected: Option<&str>) {
        let trusts = |ip: IpAddr| ip.to_string().starts_with("10.");
        let found = client(&headers(written), trusts);
        assert_eq!(found, expected.map(|ip| ip.parse().unwrap()), "{written:?}");
    }

    #[test]
    fn the_client_is_the_last_that_is_not_trusted() {
        let x = "x-forwarded-for";
        check(&[(x, "192.0.2.1")], Some("192.0.2.1"));
        check(&[(x, "6.6.6.6, 192.0.2.1, 10.0.0.9")], Some("192.0.2.1"));
        check(&[(x, "6.6.6.6"), (x, "192.0.2.1,10.0.0.9")], Some("192.0.2.1"));
        check(&[(x, "10.0.0.8, 10.0.0.9")], Some("10.0.0.8"));
        check(&[(x, "6.6.6.6, nonsense, 10.0.0.9")], Some("10.0.0.9"));
        check(&[(x, "nonsense")], None);
        check(&[(x, "")], None);
        check(&[], None);
        check(&[(x, "192.0.2.1:4711")], Some("192.0.2.1"));
        check(&[(x, "[2001:db8::1]:4711")], Some("2001:db8::1"));
        check(&[(x, "2001:db8::1")], Some("2001:db8::1"));
        check(&[(x, "::ffff:192.0.2.1")], Some("192.0.2.1"));
    }

    #[test]
    fn forwarded_is_read_too() {
        let f = "forwarded";
        check(&[(f, "for=192.0.2.1")], Some("192.0.2.1"));
        check(&[(f, "for=6.6.6.6, For=\"[2001:db8::1]:80\";proto=https")], Some("2001:db8::1"));
        check(&[(f, "by=10.0.0.1;for=192.0.2.1, for=10.0.0.2")], Some("192.0.2.1"));
        check(&[(f, "for=unknown")], None);
        check(&[(f, "proto=https")], None);
    }

    #[test]
    fn where_two_headers_differ_neither_is_believed() {
        let (x, f) = ("x-forwarded-for", "forwarded");
        check(&[(x, "192.0.2.1"), (f, "for=192.0.2.1")], Some("192.0.2.1"));
        check(&[(x, "192.0.2.1"), (f, "for=6.6.6.6")], None);
    }

    #[test]
    fn the_nearest_proxy_says_what_the_scheme_was() {
        for (written, expected) in [
            (&[("x-forwarded-proto", "https")][..], Some(true)),
            (&[("x-forwarded-proto", "HTTP")], Some(false)),
            (&[("x-forwarded-proto", "http, https")], Some(true)),
            (&[("forwarded", "proto=http, proto=\"https\";for=_x")], Some(true)),
            (&[("forwarded", "for=_x")], None),
            (&[], None),
        ] {
            assert_eq!(is_https(&headers(written)), expected, "{written:?}");
        }
    }
}
