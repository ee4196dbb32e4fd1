//! The data of records as people write it (presentation form), and as it is sent.
//!
//! Each type is a row of fields ([`field::of`]); reading, writing and checking all go by that row.
//! A type without one is written as RFC 3597 says: `\# LENGTH HEX`.

mod field;
mod svcb;
#[cfg(test)]
mod tests;
mod token;

use crate::{DnsName, RecordType};

pub(crate) use token::{Scanner, absolute, relative};
pub use token::{Token, tokens};

/// What is written before the data of a type that has no form of its own (RFC 3597 section 5).
const GENERIC: &str = "\\#";

/// Reads the data of one record, to uncompressed wire form. Names without a final dot are relative
/// to `origin`.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn parse(rtype: RecordType, words: &[Token], origin: &DnsName) -> Result<Vec<u8>, String> {
    if let [first, length, hex @ ..] = words
        && first.text == GENERIC
        && !first.is_quoted
    {
        return generic(rtype, length, hex);
    }
    let Some(fields) = field::of(rtype) else {
        return Err(format!(
            "the data of {rtype} has no form of its own; write it as `\\# LENGTH HEX` (RFC 3597)"
        ));
    };
    let mut wire = Vec::new();
    let mut words = words;
    for (i, (label, field)) in fields.iter().enumerate() {
        let told = |why| format!("{label}: {why}");
        let taken = if field.takes_the_rest() { words.len() } else { words.len().min(1) };
        let (own, rest) = words.split_at(taken);
        if own.is_empty() && !field.may_be_empty() {
            let missing: Vec<_> = fields[i..].iter().map(|(label, _)| *label).collect();
            return Err(format!("{rtype} has {}; missing: {}", example(rtype), missing.join(", ")));
        }
        field.read(own, origin, &mut wire).map_err(told)?;
        words = rest;
    }
    match words.first() {
        Some(extra) => Err(format!("`{}` is too much; {rtype} has {}", extra.text, example(rtype))),
        None if wire.len() > usize::from(u16::MAX) => Err("the data is longer than 65535".into()),
        None => Ok(wire),
    }
}

/// As [`parse`], of a text of one line in which all names are absolute.
///
/// # Errors
/// As [`parse`].
pub fn parse_line(rtype: RecordType, line: &str) -> Result<Vec<u8>, String> {
    parse(rtype, &tokens(line)?, &DnsName::root())
}

/// Writes data in presentation form, so that [`parse`] gives the same again.
pub fn print(rtype: RecordType, wire: &[u8]) -> String {
    print_own(rtype, wire).unwrap_or_else(|| {
        let mut text = format!("{GENERIC} {}", wire.len());
        if !wire.is_empty() {
            text.push(' ');
            wire.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
        }
        text
    })
}

/// Checks data in wire form that came from elsewhere.
///
/// # Errors
/// When it is no data of this type.
pub fn check(rtype: RecordType, wire: &[u8]) -> Result<(), String> {
    match field::of(rtype) {
        Some(_) if print_own(rtype, wire).is_none() => Err(format!("this is no data of {rtype}")),
        _ => Ok(()),
    }
}

/// In the form of its own type; `None` if it has none, or this is no data of it.
fn print_own(rtype: RecordType, wire: &[u8]) -> Option<String> {
    let mut rest = wire;
    let mut text = String::new();
    for (_, field) in field::of(rtype)? {
        let before = text.len();
        if before > 0 {
            text.push(' ');
        }
        field.print(&mut rest, &mut text)?;
        if text.len() == before + 1 && before > 0 {
            text.pop();
        }
    }
    rest.is_empty().then_some(text)
}

fn generic(rtype: RecordType, length: &Token, hex: &[Token]) -> Result<Vec<u8>, String> {
    let wire = field::from_hex(&hex.iter().map(|word| word.text.as_str()).collect::<String>())?;
    if length.text.parse() != Ok(wire.len()) {
        return Err(format!(
            "`{}` is said to be the length, but it is {}",
            length.text,
            wire.len()
        ));
    }
    check(rtype, &wire)?;
    Ok(wire)
}

/// What the data of a type looks like, for messages.
fn example(rtype: RecordType) -> &'static str {
    match rtype {
        RecordType::A => "one address, as 192.0.2.1",
        RecordType::AAAA => "one address, as 2001:db8::1",
        RecordType::MX => "a preference and a name, as `10 mail.example.com.`",
        RecordType::TXT => "texts, as `\"v=spf1 -all\"`",
        RecordType::SRV => "priority, weight, port and name, as `10 5 5060 sip.example.com.`",
        RecordType::CAA => "flags, tag and value, as `0 issue \"letsencrypt.org\"`",
        RecordType::SVCB | RecordType::HTTPS => {
            "a priority, a target and parameters, as `1 . alpn=h2`"
        }
        RecordType::SOA => {
            "nameserver, hostmaster, serial, refresh, retry, expire and minimum, as \
             `ns1.example.com. hostmaster.example.com. 1 1h 10m 2w 5m`"
        }
        RecordType::DS => "key tag, algorithm, digest type and digest, as `1 13 2 0a1b…`",
        RecordType::TLSA => "usage, selector, matching type and data, as `3 1 1 0a1b…`",
        RecordType::SSHFP => "algorithm, type and fingerprint, as `4 2 0a1b…`",
        RecordType::NAPTR => {
            "order, preference, flags, services, regexp and name, as \
             `100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:info@example.com!\" .`"
        }
        _ => "one name, as `www.example.com.`",
    }
}
