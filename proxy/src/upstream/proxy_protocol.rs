//! The header of the PROXY protocol, by which an instance learns whose connection it is
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::{IpAddr, SocketAddr};

use proxy_header::{Error, ProxiedAddress, ProxyHeader};
use weir_config::ProxyProtocol;

/// The header for a client and the address that it connected to; for `None`, one that says nothing.
///
/// # Errors
/// None that could come of TCP between two addresses of one family.
pub(super) fn header(
    version: ProxyProtocol,
    client: Option<(SocketAddr, SocketAddr)>,
) -> Result<Vec<u8>, Error> {
    let header = match client.map(|(from, to)| same_family(from, to)) {
        Some((from, to)) => ProxyHeader::with_address(ProxiedAddress::stream(from, to)),
        None => ProxyHeader::with_local(),
    };
    let mut encoded = Vec::new();
    match version {
        ProxyProtocol::V1 => header.encode_v1(&mut encoded)?,
        ProxyProtocol::V2 => header.encode_v2(&mut encoded)?,
    }
    Ok(encoded)
}

/// An IPv4 client of an IPv6 listener is told as what it is, if both can be.
fn same_family(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    let (from, to) = (plain(from), plain(to));
    if from.is_ipv4() == to.is_ipv4() { (from, to) } else { (mapped(from), mapped(to)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_v1(from: &str, to: &str, expected: &str) {
        let client = Some((from.parse().unwrap(), to.parse().unwrap()));
        let header = String::from_utf8(header(ProxyProtocol::V1, client).unwrap()).unwrap();
        assert_eq!(header, format!("{expected}\r\n"));
    }

    #[test]
    fn the_first_version_is_a_line() {
        check_v1("1.2.3.4:5", "6.7.8.9:443", "PROXY TCP4 1.2.3.4 6.7.8.9 5 443");
        check_v1("[2001:db8::1]:5", "[::1]:443", "PROXY TCP6 2001:db8::1 ::1 5 443");
        check_v1("[::ffff:1.2.3.4]:5", "[::ffff:6.7.8.9]:443", "PROXY TCP4 1.2.3.4 6.7.8.9 5 443");
        check_v1("1.2.3.4:5", "[2001:db8::1]:443", "PROXY TCP6 ::ffff:1.2.3.4 2001:db8::1 5 443");
        assert_eq!(header(ProxyProtocol::V1, None).unwrap(), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn the_second_version_is_binary() {
        let client = Some(("1.2.3.4:5".parse().unwrap(), "6.7.8.9:443".parse().unwrap()));
        let expected =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x06\x07\x08\x09\0\x05\x01\xbb";
        assert_eq!(header(ProxyProtocol::V2, client).unwrap(), expected);
        let client = Some(("[::1]:1".parse().unwrap(), "[::2]:2".parse().unwrap()));
        let six = header(ProxyProtocol::V2, client).unwrap();
        assert_eq!((six.len(), &six[12..16]), (16 + 36, &[0x21, 0x21, 0, 36][..]));
        assert_eq!((six[31], six[47], &six[48..]), (1, 2, &[0, 1, 0, 2][..]));
        assert_eq!(header(ProxyProtocol::V2, None).unwrap()[12..], [0x20, 0, 0, 0]);
    }
}
