//! Sets of addresses, as an operator writes them.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Networks in CIDR notation (RFC 4632), cheap to clone. An address alone is the network of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Arc<[IpNet]>);

impl Networks {
    /// # Errors
    /// The place and the text of each item that is no network.
    pub fn parse<T: AsRef<str>>(written: &[T]) -> Result<Self, Vec<(usize, String)>> {
        let (mut networks, mut problems) = (Vec::new(), Vec::new());
        for (place, text) in written.iter().enumerate() {
            match parse(text.as_ref()) {
                Some(network) => networks.push(network),
                None => problems.push((place, text.as_ref().to_owned())),
            }
        }
        if problems.is_empty() { Ok(Self(networks.into())) } else { Err(problems) }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `address` is in one of them. An IPv4 address that an IPv6 socket tells as one of
    /// IPv6 is looked for as what it is.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(IpNet::to_string))
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Vec::<String>::deserialize(deserializer)?;
        Self::parse(&written).map_err(|problems| {
            let texts: Vec<_> = problems.iter().map(|(_, text)| text.as_str()).collect();
            de::Error::custom(format!("not networks: {}", texts.join(", ")))
        })
    }
}

fn parse(text: &str) -> Option<IpNet> {
    IpNet::from_str(text).ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_the_networks_that_hold_it() {
        let networks = Networks::parse(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]).unwrap();
        for (address, inside) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(networks.contain(address.parse().unwrap()), inside, "{address}");
        }
        assert!(!Networks::default().contain("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_told_with_its_place() {
        let problems = Networks::parse(&["10.0.0.0/8", "10.0.0.0/33", "there"]).unwrap_err();
        assert_eq!(problems, [(1, "10.0.0.0/33".to_owned()), (2, "there".to_owned())]);
    }
}
