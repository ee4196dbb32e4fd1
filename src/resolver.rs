//! What this machine is told by the DNS.

use std::{io, net::IpAddr};

use weir_config::{DnsName, RecordType};
use weir_control::{Lookup, Resolver};

/// Asks as every program of this machine does, and so for addresses only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemResolver;

impl Resolver for SystemResolver {
    fn lookup<'a>(&'a self, name: &'a DnsName, rtype: RecordType) -> Lookup<'a> {
        Box::pin(async move {
            // A port is asked for, and is of no account.
            let found = match tokio::net::lookup_host((name.to_string(), 443)).await {
                Ok(found) => found,
                Err(error) if is_nothing(&error) => return Ok(Vec::new()),
                Err(error) => return Err(error.to_string()),
            };
            let data = found.filter_map(|address| match (address.ip(), rtype) {
                (IpAddr::V4(v4), RecordType::A) => Some(Box::from(v4.octets())),
                (IpAddr::V6(v6), RecordType::AAAA) => Some(Box::from(v6.octets())),
                _ => None,
            });
            match rtype {
                RecordType::A | RecordType::AAAA => Ok(data.collect()),
                _ => Err(format!("this machine's resolver does not tell {rtype} records")),
            }
        })
    }
}

/// The C library tells a name that there is not by a text only.
fn is_nothing(error: &io::Error) -> bool {
    let text = error.to_string();
    ["Name or service not known", "No address associated"].iter().any(|known| text.contains(known))
}
