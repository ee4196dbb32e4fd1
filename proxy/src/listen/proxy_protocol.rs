//! The PROXY protocol, versions 1 and 2: a load balancer says whose connection it passes on.

use std::{io, net::SocketAddr};

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Who is connected to whom, as the load balancer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// What version 2 begins with. The shortest header of version 1 is longer.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 that ends with the length of the rest.
const V2_FIXED: usize = 16;
/// Far more than the addresses and all that clouds add to them.
const V2_MAX: usize = 4096;
/// The longest line of version 1, by its specification.
const V1_MAX: usize = 107;

/// Reads a header, and nothing of what follows it. `None` if the load balancer speaks for itself
/// (`LOCAL`, a health check) or does not know (`UNKNOWN`, `UNSPEC`).
///
/// # Errors
/// When the connection does not begin with a header.
pub(crate) async fn read(tcp: &mut TcpStream) -> io::Result<Option<Ends>> {
    let mut header = vec![0; SIGNATURE.len()];
    tcp.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_v2(tcp, &mut header).await?;
    } else if header.starts_with(b"PROXY ") {
        read_v1(tcp, &mut header).await?;
    } else {
        return Err(invalid("no PROXY header"));
    }
    parse(&header)
}

async fn read_v2(tcp: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    header.resize(V2_FIXED, 0);
    tcp.read_exact(&mut header[SIGNATURE.len()..]).await?;
    let rest = usize::from(u16::from_be_bytes([header[V2_FIXED - 2], header[V2_FIXED - 1]]));
    if rest > V2_MAX {
        return Err(invalid("a PROXY header of more than 4 KiB"));
    }
    header.resize(V2_FIXED + rest, 0);
    tcp.read_exact(&mut header[V2_FIXED..]).await.map(|_| ())
}

/// Only the end of the line says where it ends, so it is looked at before it is taken.
async fn read_v1(tcp: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    while header.len() < V1_MAX {
        let begin = header.len();
        header.resize(V1_MAX, 0);
        let seen = tcp.peek(&mut header[begin..]).await?;
        let line_end = header[begin..begin + seen].iter().position(|byte| *byte == b'\n');
        let taken = line_end.map_or(seen, |end| end + 1);
        if taken == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        header.truncate(begin + taken);
        tcp.read_exact(&mut header[begin..]).await?;
        if line_end.is_some() {
            return Ok(());
        }
    }
    Err(invalid("a PROXY header without an end"))
}

fn parse(header: &[u8]) -> io::Result<Option<Ends>> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(header, config) {
        Ok((parsed, length)) if length == header.len() => {
            let address = parsed.proxied_address().filter(|a| a.protocol == Protocol::Stream);
            Ok(address.map(|a| Ends { client: a.source, local: a.destination }))
        }
        Ok(_) | Err(_) => Err(invalid("a PROXY header that cannot be read")),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
            any::<([u16; 8], u16)>().prop_map(SocketAddr::from),
        ]
    }

    proptest! {
        #[test]
        fn what_a_load_balancer_writes_is_read(client in address(), port: u16) {
            let local = SocketAddr::new(client.ip(), port);
            let address = proxy_header::ProxiedAddress::stream(client, local);
            let header = ProxyHeader::with_address(address);
            let (mut v1, mut v2) = ([0; 256], [0; 256]);
            let length = header.encode_to_slice_v1(&mut v1).unwrap();
            prop_assert_eq!(parse(&v1[..length]).unwrap(), Some(Ends { client, local }));
            let length = header.encode_to_slice_v2(&mut v2).unwrap();
            prop_assert_eq!(parse(&v2[..length]).unwrap(), Some(Ends { client, local }));
        }

        #[test]
        fn no_bytes_are_a_disaster(rest: Vec<u8>, line in "[ -~\r\n]*") {
            let _ = parse(&rest);
            let _ = parse(&[SIGNATURE, &rest[..]].concat());
            let _ = parse(format!("PROXY {line}").as_bytes());
            let _ = parse(&[b"PROXY TCP6 ", &rest[..], b"\r\n"].concat());
        }
    }
}
