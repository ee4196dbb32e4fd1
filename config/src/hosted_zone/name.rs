//! The names of zones.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    str::FromStr,
    sync::Arc,
};

use serde::{Serialize, Serializer};

use crate::DnsName;

/// The name of a zone: a domain name other than the root, as text without a final dot.
#[derive(Clone)]
pub struct ZoneName {
    text: Arc<str>,
    name: DnsName,
}

impl ZoneName {
    pub fn dns(&self) -> &DnsName {
        &self.name
    }

    /// A name as it is written beside the zone's: `@` is the zone's own, `www` is below it, and so is
    /// `www.example.com` of the zone `example.com`.
    ///
    /// # Errors
    /// When it is no domain name.
    pub fn within(&self, text: &str) -> Result<DnsName, String> {
        if text == "@" {
            return Ok(self.name.clone());
        }
        let name: DnsName = text.parse()?;
        if name.is_at_or_below(&self.name) {
            return Ok(name);
        }
        format!("{}.{self}", text.strip_suffix('.').unwrap_or(text)).parse()
    }
}

impl FromStr for ZoneName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name: DnsName = text.parse()?;
        if name.is_root() || name.labels().any(|label| label == b"*") {
            return Err(format!("`{text}` is not a zone's name; write one as example.com"));
        }
        Ok(Self { text: name.to_string().into(), name })
    }
}

impl Deref for ZoneName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.text
    }
}

impl Borrow<str> for ZoneName {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl PartialEq for ZoneName {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ZoneName {}

impl PartialOrd for ZoneName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ZoneName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for ZoneName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl Serialize for ZoneName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
