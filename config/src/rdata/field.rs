//! What the data of each type is made of.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    svcb,
    token::{Token, absolute, escape, quote, relative},
};
use crate::{DnsName, RecordType, zone_file::seconds};

/// One field of a record's data.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    U8,
    U16,
    U32,
    /// A `U32` that may be written with units, as `1h`.
    Seconds,
    Ipv4,
    Ipv6,
    Name,
    /// One text with its length before it, at most 255 bytes (RFC 1035 section 3.3).
    Text,
    /// One or more of them, to the end.
    Texts,
    /// A tag of CAA: a text of letters and digits (RFC 8659 section 4.1).
    Tag,
    /// A text of any length, to the end.
    LongText,
    /// Bytes to the end, in hexadecimal digits.
    Hex,
    /// Parameters of a service, to the end (RFC 9460).
    Parameters,
}

type Fields = &'static [(&'static str, Field)];

/// The fields of a type, each with its name; `None` if only its bytes are known.
pub(super) fn of(rtype: RecordType) -> Option<Fields> {
    use Field::*;
    Some(match rtype {
        RecordType::A => &[("the address", Ipv4)],
        RecordType::AAAA => &[("the address", Ipv6)],
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::DNAME => {
            &[("the name", Name)]
        }
        RecordType::MX => &[("the preference", U16), ("the name", Name)],
        RecordType::TXT => &[("the text", Texts)],
        RecordType::SRV => {
            &[("the priority", U16), ("the weight", U16), ("the port", U16), ("the name", Name)]
        }
        RecordType::CAA => &[("the flags", U8), ("the tag", Tag), ("the value", LongText)],
        RecordType::SVCB | RecordType::HTTPS => {
            &[("the priority", U16), ("the target", Name), ("the parameters", Parameters)]
        }
        RecordType::SOA => &[
            ("the nameserver", Name),
            ("the hostmaster", Name),
            ("the serial", U32),
            ("refresh", Seconds),
            ("retry", Seconds),
            ("expire", Seconds),
            ("minimum", Seconds),
        ],
        RecordType::DS => &[
            ("the key tag", U16),
            ("the algorithm", U8),
            ("the digest type", U8),
            ("the digest", Hex),
        ],
        RecordType::TLSA => {
            &[("the usage", U8), ("the selector", U8), ("the matching type", U8), ("the data", Hex)]
        }
        RecordType::SSHFP => &[("the algorithm", U8), ("the type", U8), ("the fingerprint", Hex)],
        RecordType::NAPTR => &[
            ("the order", U16),
            ("the preference", U16),
            ("the flags", Text),
            ("the services", Text),
            ("the regexp", Text),
            ("the name", Name),
        ],
        _ => return None,
    })
}

/// The longest text with its length before it.
const MAX_TEXT: usize = 255;

impl Field {
    pub(super) fn takes_the_rest(self) -> bool {
        matches!(self, Self::Texts | Self::Hex | Self::Parameters)
    }

    pub(super) fn may_be_empty(self) -> bool {
        matches!(self, Self::Parameters)
    }

    /// Reads it from its words. There is one at least, unless it may be empty.
    pub(super) fn read(
        self,
        words: &[Token],
        origin: &DnsName,
        wire: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self {
            Self::Texts => {
                return words.iter().try_for_each(|word| text(&word.bytes()?, wire));
            }
            Self::Hex => {
                let digits: String = words.iter().map(|word| word.text.as_str()).collect();
                wire.extend(from_hex(&digits)?);
                return Ok(());
            }
            Self::Parameters => return svcb::read(words, wire),
            _ => {}
        }
        let [word, ..] = words else { return Err("it is missing".to_owned()) };
        let written = word.text.as_str();
        let number = |most: u32| match written.parse::<u32>() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(format!("`{written}` is not a number from 0 to {most}")),
        };
        match self {
            Self::U8 => wire.push(number(u8::MAX.into())? as u8),
            Self::U16 => wire.extend((number(u16::MAX.into())? as u16).to_be_bytes()),
            Self::U32 => wire.extend(number(u32::MAX)?.to_be_bytes()),
            Self::Seconds => wire.extend(seconds(written)?.to_be_bytes()),
            Self::Ipv4 => {
                let address: Ipv4Addr = written.parse().map_err(|_| {
                    format!("`{written}` is not an IPv4 address; write one as 192.0.2.1")
                })?;
                wire.extend(address.octets());
            }
            Self::Ipv6 => {
                let address: Ipv6Addr = written.parse().map_err(|_| {
                    format!("`{written}` is not an IPv6 address; write one as 2001:db8::1")
                })?;
                wire.extend(address.octets());
            }
            Self::Name => wire.extend(relative(written, origin)?.wire()),
            Self::Text => text(&word.bytes()?, wire)?,
            Self::Tag => {
                if written.is_empty() || !written.bytes().all(|b| b.is_ascii_alphanumeric()) {
                    return Err(format!("`{written}` is not letters and digits, as `issue`"));
                }
                text(written.to_ascii_lowercase().as_bytes(), wire)?;
            }
            Self::LongText => wire.extend(word.bytes()?),
            Self::Texts | Self::Hex | Self::Parameters => {}
        }
        Ok(())
    }

    /// Writes it as text, and takes it from the wire; `None` if it is not there.
    pub(super) fn print(self, wire: &mut &[u8], text: &mut String) -> Option<()> {
        match self {
            Self::U8 => text.push_str(&take::<1>(wire)?[0].to_string()),
            Self::U16 => text.push_str(&u16::from_be_bytes(take(wire)?).to_string()),
            Self::U32 | Self::Seconds => {
                text.push_str(&u32::from_be_bytes(take(wire)?).to_string());
            }
            Self::Ipv4 => text.push_str(&Ipv4Addr::from(take::<4>(wire)?).to_string()),
            Self::Ipv6 => text.push_str(&Ipv6Addr::from(take::<16>(wire)?).to_string()),
            Self::Name => text.push_str(&absolute(&take_name(wire)?)),
            Self::Text => quote(take_text(wire)?, text),
            Self::Texts => {
                quote(take_text(wire)?, text);
                while !wire.is_empty() {
                    text.push(' ');
                    quote(take_text(wire)?, text);
                }
            }
            Self::Tag => {
                let tag = take_text(wire)?;
                if tag.is_empty() || !tag.iter().all(u8::is_ascii_alphanumeric) {
                    return None;
                }
                escape(tag, b"", text);
            }
            Self::LongText => quote(std::mem::take(wire), text),
            Self::Hex => {
                if wire.is_empty() {
                    return None;
                }
                let bytes = std::mem::take(wire);
                bytes.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
            }
            Self::Parameters => svcb::print(wire, text)?,
        }
        Some(())
    }
}

/// Takes the first bytes of the wire.
pub(super) fn take<const N: usize>(wire: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = wire.split_first_chunk()?;
    *wire = rest;
    Some(*first)
}

fn take_text<'a>(wire: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [length] = take(wire)?;
    let (text, rest) = wire.split_at_checked(usize::from(length))?;
    *wire = rest;
    Some(text)
}

fn take_name(wire: &mut &[u8]) -> Option<DnsName> {
    let mut end = 0;
    loop {
        let length = usize::from(*wire.get(end)?);
        end += 1 + length;
        if length == 0 {
            break;
        }
    }
    let (name, rest) = wire.split_at_checked(end)?;
    *wire = rest;
    DnsName::from_wire(name).ok()
}

fn text(bytes: &[u8], wire: &mut Vec<u8>) -> Result<(), String> {
    let length = u8::try_from(bytes.len()).map_err(|_| {
        format!(
            "a text has at most {MAX_TEXT} bytes, and this one {}; write several texts",
            bytes.len()
        )
    })?;
    wire.push(length);
    wire.extend(bytes);
    Ok(())
}

pub(super) fn from_hex(digits: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| match pair {
            [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
            _ => None,
        })
        .collect();
    bytes.ok_or_else(|| format!("`{digits}` is not pairs of hexadecimal digits"))
}
