//! Zone files, the master files of RFC 1035 section 5, which every DNS server reads and writes.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use self::{read::read, write::write};
use crate::{DnsName, RecordType, rdata};

/// The type of a record as it is written: `ALIAS` is one that is never served. Control looks up the
/// addresses of the name that it leads to, and those are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WrittenType {
    Alias,
    Of(RecordType),
}

/// One record of a zone file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: DnsName,
    /// In seconds; `None` if the file says none.
    pub ttl: Option<u32>,
    pub rtype: WrittenType,
    /// In uncompressed wire form; of an alias, the name that it leads to.
    pub data: Vec<u8>,
    /// Where it begins, counted from 1.
    pub line: usize,
}

const ALIAS: &str = "ALIAS";

impl WrittenType {
    /// Whose form its data has.
    pub fn form(self) -> RecordType {
        match self {
            Self::Alias => RecordType::CNAME,
            Self::Of(rtype) => rtype,
        }
    }

    /// Reads the data of a record; in a text of one line all names are absolute.
    ///
    /// # Errors
    /// As [`rdata::parse_line`].
    pub fn parse(self, line: &str) -> Result<Vec<u8>, String> {
        rdata::parse_line(self.form(), line)
    }

    pub fn print(self, data: &[u8]) -> String {
        rdata::print(self.form(), data)
    }
}

impl FromStr for WrittenType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case(ALIAS) {
            return Ok(Self::Alias);
        }
        let rtype: RecordType = text.parse()?;
        if rtype.is_meta() {
            return Err(format!("`{text}` can be asked for, but no record is of that type"));
        }
        Ok(Self::Of(rtype))
    }
}

impl fmt::Display for WrittenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias => f.pad(ALIAS),
            Self::Of(rtype) => rtype.fmt(f),
        }
    }
}

impl Serialize for WrittenType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WrittenType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The longest TTL, and the longest of a SOA's times (RFC 2181 section 8).
pub const MAX_SECONDS: u32 = i32::MAX as u32;

/// Seconds as zone files write them: a number, or numbers with units as `1h30m`.
pub(crate) fn seconds(text: &str) -> Result<u32, String> {
    let refuse = || format!("`{text}` is not a time; write seconds, or as 1h30m, up to 68 years");
    let (mut total, mut number) = (0_u64, None::<u64>);
    for byte in text.bytes() {
        let unit = match byte.to_ascii_lowercase() {
            b'0'..=b'9' => {
                let next = number.unwrap_or(0) * 10 + u64::from(byte - b'0');
                number = Some(next).filter(|next| *next <= MAX_SECONDS.into());
                if number.is_none() {
                    return Err(refuse());
                }
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return Err(refuse()),
        };
        total += number.take().ok_or_else(refuse)? * unit;
    }
    let is_written = number.is_some() || total > 0 || text.ends_with(|c: char| c.is_alphabetic());
    total += number.unwrap_or(0);
    u32::try_from(total).ok().filter(|n| is_written && *n <= MAX_SECONDS).ok_or_else(refuse)
}
