//! Who is told from whom.

use std::net::IpAddr;

/// Whoever is counted, limited and rationed as one client: an IPv4 address, or an IPv6 network of
/// 64 bits, since whoever has one address of it has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(u128);

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits() >> 64 << 64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(one: &str, other: &str, are_one: bool) {
        let [key, other_key] =
            [one, other].map(|address| ClientKey::from(address.parse::<IpAddr>().unwrap()));
        assert_eq!(key == other_key, are_one, "{one} and {other}");
    }

    #[test]
    fn an_ipv4_address_is_one_client_and_so_is_an_ipv6_network() {
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("2001:db8::1", "2001:db8::ffff:1:2", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("0.0.0.0", "::", false);
    }
}
