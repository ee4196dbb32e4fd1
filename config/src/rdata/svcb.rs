//! The parameters of SVCB and HTTPS records (RFC 9460 section 2.1 and appendix A).

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    field::take,
    token::{Token, escape, unescape},
};

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4_HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6_HINT: u16 = 6;
const DOH_PATH: u16 = 7;
const OHTTP: u16 = 8;

const KEYS: [(u16, &str); 9] = [
    (MANDATORY, "mandatory"),
    (ALPN, "alpn"),
    (NO_DEFAULT_ALPN, "no-default-alpn"),
    (PORT, "port"),
    (IPV4_HINT, "ipv4hint"),
    (ECH, "ech"),
    (IPV6_HINT, "ipv6hint"),
    (DOH_PATH, "dohpath"),
    (OHTTP, "ohttp"),
];
/// Never a key (RFC 9460 section 14.3.2).
const INVALID_KEY: u16 = u16::MAX;

pub(super) fn read(words: &[Token], wire: &mut Vec<u8>) -> Result<(), String> {
    let mut parameters = BTreeMap::new();
    for word in words {
        let (name, written) = match word.text.split_once('=') {
            Some((name, written)) => (name, Some(written)),
            None => (word.text.as_str(), None),
        };
        let key = key(name)?;
        let value = value(key, written).map_err(|why| format!("{name}: {why}"))?;
        if parameters.insert(key, value).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    check(&parameters)?;
    for (key, value) in parameters {
        let length =
            u16::try_from(value.len()).map_err(|_| format!("{} is too long", name(key)))?;
        wire.extend(key.to_be_bytes());
        wire.extend(length.to_be_bytes());
        wire.extend(value);
    }
    Ok(())
}

/// What the keys say of each other (RFC 9460 sections 7.1.1 and 8).
fn check(parameters: &BTreeMap<u16, Vec<u8>>) -> Result<(), String> {
    if parameters.contains_key(&NO_DEFAULT_ALPN) && !parameters.contains_key(&ALPN) {
        return Err("`no-default-alpn` needs `alpn`".to_owned());
    }
    let mandatory = parameters.get(&MANDATORY).map_or(&[][..], Vec::as_slice);
    for pair in mandatory.chunks_exact(2) {
        let key = u16::from_be_bytes([pair[0], pair[1]]);
        if !parameters.contains_key(&key) {
            return Err(format!("`{}` is mandatory, but it is not there", name(key)));
        }
    }
    Ok(())
}

fn key(written: &str) -> Result<u16, String> {
    let lower = written.to_ascii_lowercase();
    let known = KEYS.iter().find(|(_, name)| *name == lower).map(|(key, _)| *key);
    let numbered = || lower.strip_prefix("key").and_then(|number| number.parse().ok());
    known.or_else(numbered).filter(|key| *key != INVALID_KEY).ok_or_else(|| {
        let names: Vec<_> = KEYS.iter().map(|(_, name)| *name).collect();
        format!("`{written}` is not a parameter; there are {} and keyNNNNN", names.join(", "))
    })
}

fn name(key: u16) -> String {
    let known = KEYS.iter().find(|(known, _)| *known == key);
    known.map_or_else(|| format!("key{key}"), |(_, name)| (*name).to_owned())
}

fn value(key: u16, written: Option<&str>) -> Result<Vec<u8>, String> {
    let Some(text) = written else {
        return match key {
            NO_DEFAULT_ALPN | OHTTP => Ok(Vec::new()),
            MANDATORY..=OHTTP => Err("it needs a value".to_owned()),
            _ => Ok(Vec::new()),
        };
    };
    match key {
        MANDATORY => {
            let mut keys = text.split(',').map(self::key).collect::<Result<Vec<_>, _>>()?;
            keys.sort_unstable();
            if keys.contains(&MANDATORY) || keys.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err("write other keys, each of them once".to_owned());
            }
            Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
        }
        ALPN => alpn(text),
        NO_DEFAULT_ALPN | OHTTP => Err("it has no value".to_owned()),
        PORT => {
            let port: u16 = text.parse().map_err(|_| format!("`{text}` is not a port"))?;
            Ok(port.to_be_bytes().to_vec())
        }
        IPV4_HINT => addresses::<Ipv4Addr, 4>(text, |address| address.octets()),
        IPV6_HINT => addresses::<Ipv6Addr, 16>(text, |address| address.octets()),
        ECH => STANDARD.decode(text).map_err(|_| "write it in base64".to_owned()),
        _ => unescape(text),
    }
}

fn addresses<A: std::str::FromStr, const N: usize>(
    text: &str,
    octets: impl Fn(A) -> [u8; N],
) -> Result<Vec<u8>, String> {
    let mut wire = Vec::new();
    for written in text.split(',') {
        let address = written.parse().map_err(|_| format!("`{written}` is not such an address"))?;
        wire.extend(octets(address));
    }
    Ok(wire)
}

/// Names of protocols with commas between them. A comma in one has a backslash before it, and as
/// the list itself stands in a text, its backslash has one too.
fn alpn(text: &str) -> Result<Vec<u8>, String> {
    let mut wire = Vec::new();
    let mut name = Vec::new();
    let mut bytes = unescape(text)?.into_iter();
    loop {
        let byte = bytes.next();
        match byte {
            Some(b'\\') => name.extend(bytes.next()),
            Some(byte) if byte != b',' => name.push(byte),
            _ => {
                let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
                wire.push(length.ok_or("the name of a protocol has 1 to 255 bytes, as h2")?);
                wire.append(&mut name);
            }
        }
        if byte.is_none() {
            return Ok(wire);
        }
    }
}

pub(super) fn print(wire: &mut &[u8], text: &mut String) -> Option<()> {
    let mut parameters = BTreeMap::new();
    let mut last = None;
    while !wire.is_empty() {
        let key = u16::from_be_bytes(take(wire)?);
        let length = u16::from_be_bytes(take(wire)?);
        let (value, rest) = wire.split_at_checked(usize::from(length))?;
        *wire = rest;
        if last.is_some_and(|last| last >= key) || key == INVALID_KEY {
            return None;
        }
        if last.is_some() {
            text.push(' ');
        }
        last = Some(key);
        text.push_str(&name(key));
        print_value(key, value, text)?;
        parameters.insert(key, value.to_vec());
    }
    check(&parameters).ok()
}

fn print_value(key: u16, value: &[u8], text: &mut String) -> Option<()> {
    if value.is_empty() {
        return (matches!(key, NO_DEFAULT_ALPN | OHTTP) || key > OHTTP).then_some(());
    }
    text.push('=');
    let listed = |items: Vec<String>| items.join(",");
    match key {
        MANDATORY if value.len().is_multiple_of(2) => {
            let keys = value.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            let keys: Vec<_> = keys.collect();
            if keys.contains(&MANDATORY) || keys.windows(2).any(|pair| pair[0] >= pair[1]) {
                return None;
            }
            text.push_str(&listed(keys.into_iter().map(name).collect()));
        }
        ALPN => print_alpn(value, text)?,
        PORT if value.len() == 2 => {
            text.push_str(&u16::from_be_bytes([value[0], value[1]]).to_string());
        }
        IPV4_HINT if value.len().is_multiple_of(4) => {
            let address = |octets: &[u8]| <[u8; 4]>::try_from(octets).map(Ipv4Addr::from);
            let addresses = value.chunks(4).filter_map(|octets| address(octets).ok());
            text.push_str(&listed(addresses.map(|address| address.to_string()).collect()));
        }
        IPV6_HINT if value.len().is_multiple_of(16) => {
            let address = |octets: &[u8]| <[u8; 16]>::try_from(octets).map(Ipv6Addr::from);
            let addresses = value.chunks(16).filter_map(|octets| address(octets).ok());
            text.push_str(&listed(addresses.map(|address| address.to_string()).collect()));
        }
        ECH => text.push_str(&STANDARD.encode(value)),
        MANDATORY..=IPV6_HINT | OHTTP => return None,
        _ => {
            text.push('"');
            escape(value, b"\"\\", text);
            text.push('"');
        }
    }
    Some(())
}

fn print_alpn(value: &[u8], text: &mut String) -> Option<()> {
    let mut list = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let [length] = take(&mut rest)?;
        let (name, after) = rest.split_at_checked(usize::from(length))?;
        if name.is_empty() {
            return None;
        }
        rest = after;
        if !list.is_empty() {
            list.push(b',');
        }
        for byte in name {
            if b",\\".contains(byte) {
                list.push(b'\\');
            }
            list.push(*byte);
        }
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./,".contains(byte);
    if list.iter().all(is_plain) {
        escape(&list, b"", text);
        return Some(());
    }
    text.push('"');
    escape(&list, b"\"\\", text);
    text.push('"');
    Some(())
}
