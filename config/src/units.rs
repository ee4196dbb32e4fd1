//! Quantities as people write them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, written like `30s`, `5m` or `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Longer ones are mistakes, and the furthest would be beyond what a clock can be set to.
const MAX_SPAN: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Span {
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// # Errors
    /// It is no length of time, or too long a one to be added to a point in time.
    pub fn parse(text: &str) -> Result<Self, String> {
        let span = humantime::parse_duration(text).map_err(|_| {
            format!("`{text}` is not a length of time; write it like 30s, 5m or 1h30m")
        })?;
        if span > MAX_SPAN {
            return Err(format!("`{text}` is too long; write at most 3650d"));
        }
        Ok(Self(span))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = humantime::format_duration(self.0).to_string();
        f.write_str(&text.replace(' ', ""))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// An amount of memory, written like `256MiB` or `1GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory(pub u64);

impl Memory {
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| {
            format!("`{text}` is not an amount of memory; write it like 256MiB or 1GB")
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        if self.0 != 0 && self.0.is_multiple_of(MIB) {
            write!(f, "{}MiB", self.0 / MIB)
        } else {
            write!(f, "{}B", self.0)
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_was_read() {
        for text in ["30s", "5m", "1h30m", "250ms"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
        for text in ["256MiB", "1000B"] {
            assert_eq!(Memory::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_an_example() {
        assert!(Span::parse("soon").unwrap_err().contains("30s"));
        assert!(Span::parse("3650d").is_ok());
        assert!(Span::parse("3651d").unwrap_err().contains("3650d"));
        assert!(Span::parse("500000000000y").unwrap_err().contains("3650d"));
        assert!(Memory::parse("plenty").unwrap_err().contains("256MiB"));
    }
}
