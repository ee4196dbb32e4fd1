//! Extensions of the protocol (RFC 6891): what a client says in its OPT record, and what it is told
//! in ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_config::RecordType;

use crate::{
    answer::Verdict,
    request::{ClientSubnet, Rcode},
};

/// The longest answer over UDP: it passes every network unfragmented (DNS flag day 2020).
pub(crate) const PAYLOAD: u16 = 1232;
const DNSSEC_OK: u32 = 0x8000;
/// The octets of an OPT record before the length of its options.
const HEAD: usize = 9;
/// The octets of an OPT record without options.
pub(crate) const BARE: usize = HEAD + 2;

pub(crate) mod option {
    pub(crate) const NSID: u16 = 3;
    pub(crate) const CLIENT_SUBNET: u16 = 8;
    pub(crate) const COOKIE: u16 = 10;
}

/// What a client says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edns<'m> {
    /// The longest answer over UDP that it takes, in octets.
    pub(crate) payload: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
    pub(crate) asks_nsid: bool,
    pub(crate) cookie: Option<Cookie<'m>>,
    pub(crate) subnet: Option<ClientSubnet>,
}

/// RFC 7873 section 4.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cookie<'m> {
    pub(crate) client: [u8; 8],
    /// Empty, or 8 to 32 octets that we, perhaps, made.
    pub(crate) server: &'m [u8],
}

impl<'m> Edns<'m> {
    /// From the fields of an OPT record; `None` if an option is not well-formed.
    pub(crate) fn parse(class: u16, ttl: u32, data: &'m [u8]) -> Option<Self> {
        let mut edns = Self {
            payload: class,
            version: (ttl >> 16) as u8,
            dnssec_ok: ttl & DNSSEC_OK != 0,
            asks_nsid: false,
            cookie: None,
            subnet: None,
        };
        if edns.version > 0 {
            // What its options mean is not known.
            return Some(edns);
        }
        let mut rest = data;
        while !rest.is_empty() {
            let (head, after) = rest.split_first_chunk::<4>()?;
            let [code, len] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
            let (value, after) = after.split_at_checked(len.into())?;
            match code {
                option::NSID => edns.asks_nsid = true,
                // Of several, the first counts (RFC 7873 section 5.2).
                option::COOKIE if edns.cookie.is_none() => edns.cookie = Some(cookie(value)?),
                option::CLIENT_SUBNET => edns.subnet = Some(subnet(value)?),
                _ => {}
            }
            rest = after;
        }
        Some(edns)
    }
}

fn cookie(value: &[u8]) -> Option<Cookie<'_>> {
    let (client, server) = value.split_first_chunk::<8>()?;
    matches!(server.len(), 0 | 8..=32).then_some(Cookie { client: *client, server })
}

/// RFC 7871 section 6: the address has as many octets as its prefix needs, and beyond the prefix
/// its bits are zero.
fn subnet(value: &[u8]) -> Option<ClientSubnet> {
    let (&[0, family, prefix, 0], octets) = value.split_first_chunk::<4>()? else { return None };
    if octets.len() != usize::from(prefix).div_ceil(8) {
        return None;
    }
    let address: IpAddr = match family {
        1 => Ipv4Addr::from(filled::<4>(octets)?).into(),
        2 => Ipv6Addr::from(filled::<16>(octets)?).into(),
        _ => return None,
    };
    let spare = octets.len() * 8 - usize::from(prefix);
    let beyond = octets.last().map_or(0, |last| last & ((1 << spare) - 1) as u8);
    (beyond == 0).then_some(ClientSubnet { address, prefix })
}

fn filled<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    let mut address = [0; N];
    address.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(address)
}

/// What a client is told: the options of an answer, in the order in which they are written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options<'s> {
    pub(crate) nsid: Option<&'s [u8]>,
    pub(crate) cookie: Option<[u8; 24]>,
    /// The network that it asked for, and for which prefix of it the answer is right.
    pub(crate) subnet: Option<(ClientSubnet, u8)>,
}

impl Options<'_> {
    /// An answer that was chosen for a network is right for that only, another one for all.
    pub(crate) fn of(self, verdict: Verdict) -> Self {
        let scope = |subnet: ClientSubnet| if verdict.is_steered { subnet.prefix } else { 0 };
        Self { subnet: self.subnet.map(|(subnet, _)| (subnet, scope(subnet))), ..self }
    }

    /// Gives each option's code and the parts of its value.
    pub(crate) fn each(&self, mut option: impl FnMut(u16, &[&[u8]])) {
        if let Some(nsid) = self.nsid {
            option(option::NSID, &[nsid]);
        }
        if let Some(cookie) = self.cookie {
            option(option::COOKIE, &[&cookie]);
        }
        if let Some((subnet, scope)) = self.subnet {
            let used = usize::from(subnet.prefix).div_ceil(8);
            let head = |family| [0, family, subnet.prefix, scope];
            match subnet.address {
                IpAddr::V4(ip) => {
                    option(option::CLIENT_SUBNET, &[&head(1), &ip.octets()[..used]]);
                }
                IpAddr::V6(ip) => {
                    option(option::CLIENT_SUBNET, &[&head(2), &ip.octets()[..used]]);
                }
            }
        }
    }

    /// Writes each option as it is in an OPT record.
    pub(crate) fn write(&self, mut put: impl FnMut(&[u8])) {
        self.each(|code, value| {
            let len: usize = value.iter().map(|part| part.len()).sum();
            put(&code.to_be_bytes());
            put(&(len as u16).to_be_bytes());
            value.iter().for_each(|part| put(part));
        });
    }

    /// How many octets they are in an OPT record.
    pub(crate) fn len(&self) -> usize {
        let mut len = 0;
        self.write(|part| len += part.len());
        len
    }
}

/// The fixed part of our OPT record: what comes before the length of its options.
pub(crate) fn head(rcode: Rcode, dnssec_ok: bool) -> [u8; HEAD] {
    let [a, b] = RecordType::OPT.0.to_be_bytes();
    let [c, d] = PAYLOAD.to_be_bytes();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    [0, a, b, c, d, (rcode as u16 >> 4) as u8, 0, flags, 0]
}
