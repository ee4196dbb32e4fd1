//! Writing a zone file.

use std::fmt::Write;

use super::WrittenType;
use crate::{DnsName, rdata::absolute};

/// Writes records as a zone file, in the order in which they come. A record of which no TTL is told
/// has that of `default_ttl`.
pub fn write<'a, D: AsRef<[u8]>>(
    origin: &DnsName,
    default_ttl: u32,
    records: impl IntoIterator<Item = (&'a DnsName, Option<u32>, WrittenType, D)>,
) -> String {
    let mut text = format!("$ORIGIN {}\n$TTL {default_ttl}\n", absolute(origin));
    let mut former = None;
    for (name, ttl, rtype, data) in records {
        if former != Some(name) {
            text.push_str(&relative_to(name, origin));
            former = Some(name);
        }
        let ttl = ttl.filter(|ttl| *ttl != default_ttl).map(|ttl| format!("{ttl}\t"));
        let (ttl, data) = (ttl.unwrap_or_default(), rtype.print(data.as_ref()));
        // Writing to a text does not fail.
        let _ = writeln!(text, "\t{ttl}{rtype}\t{data}");
    }
    text
}

/// A name as it is written below `$ORIGIN`.
fn relative_to(name: &DnsName, origin: &DnsName) -> String {
    if name == origin {
        return "@".to_owned();
    }
    if origin.is_root() || !name.is_at_or_below(origin) {
        return absolute(name);
    }
    let text = name.to_string();
    let above = origin.to_string();
    text.strip_suffix(&above).and_then(|own| own.strip_suffix('.')).unwrap_or(&text).to_owned()
}
