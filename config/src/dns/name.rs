//! Domain names in the form that they have on the wire (RFC 1035 section 3.1).

use std::{borrow::Borrow, cmp::Ordering, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Hostname;

/// The most octets of a name on the wire, the root's among them.
pub const MAX_NAME: usize = 255;
/// The most octets of a label.
const MAX_LABEL: usize = 63;

/// A domain name: lower-cased and uncompressed as on the wire, at most 255 octets. Cheap to clone.
///
/// Ordered canonically (RFC 4034 section 6.1), and hashed as its octets are: a hash map of names is
/// asked with octets, an ordered map only with names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DnsName(Arc<[u8]>);

/// Why something is not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    #[error("it is empty; the root is written `.`")]
    Empty,
    #[error("two dots follow each other, or it begins with one")]
    EmptyLabel,
    #[error("a part between dots is longer than 63 octets")]
    LongLabel,
    #[error("it is longer than 255 octets on the wire")]
    Long,
    #[error("after `\\` come three digits up to 255, or a character that is meant as it is")]
    Escape,
    #[error("it does not end with the root's label, or goes on after it")]
    Wire,
}

impl DnsName {
    pub fn root() -> Self {
        Self(Arc::new([0]))
    }

    /// A name from the wire, which must not be compressed and nothing may follow.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NotAName> {
        let mut rest = wire;
        loop {
            match rest.split_first() {
                _ if wire.len() > MAX_NAME => return Err(NotAName::Long),
                Some((0, [])) => break,
                Some((&len, after)) if (1..=MAX_LABEL).contains(&len.into()) => {
                    rest = after.get(len.into()..).ok_or(NotAName::Wire)?;
                }
                Some((&len, _)) if usize::from(len) > MAX_LABEL => return Err(NotAName::LongLabel),
                _ => return Err(NotAName::Wire),
            }
        }
        // A length is at most 63, which is no upper-case letter.
        Ok(Self(wire.iter().map(u8::to_ascii_lowercase).collect()))
    }

    /// A name in presentation form; one without a final dot is below `origin`, and `@` is `origin`
    /// itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_relative(text: &str, origin: &Self) -> Result<Self, String> {
        if text == "@" {
            return Ok(origin.clone());
        }
        parse(text, origin).map_err(|why| format!("`{text}` is not a domain name: {why}"))
    }

    /// Lower-cased and uncompressed.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// From the left, without the root's.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        labels(&self.0)
    }

    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Whether its first label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// The name without its first label; `None` above the root.
    pub fn parent(&self) -> Option<Self> {
        parent(&self.0).map(|parent| Self(parent.into()))
    }

    /// Whether it is `above` or ends with it.
    pub fn is_at_or_below(&self, above: &Self) -> bool {
        is_at_or_below(&self.0, &above.0)
    }

    /// `*.` in front of this name.
    ///
    /// # Errors
    /// [`NotAName::Long`].
    pub fn wildcard(&self) -> Result<Self, NotAName> {
        self.child(b"*")
    }

    /// One more label in front of this name.
    ///
    /// # Errors
    /// What is wrong with the label, or [`NotAName::Long`].
    pub fn child(&self, label: &[u8]) -> Result<Self, NotAName> {
        let mut wire = Vec::with_capacity(1 + label.len() + self.0.len());
        push_label(&mut wire, label)?;
        wire.extend_from_slice(&self.0);
        (wire.len() <= MAX_NAME).then(|| Self(wire.into())).ok_or(NotAName::Long)
    }
}

/// The name without its first label; `None` above the root. For names as [`DnsName::wire`] gives
/// them, as are the functions below.
pub fn parent(wire: &[u8]) -> Option<&[u8]> {
    match wire.split_first() {
        None | Some((0, _)) => None,
        Some((&len, rest)) => rest.get(len.into()..),
    }
}

/// The name, its parent, and so on up to the root.
pub fn suffixes(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(wire), |wire| parent(wire))
}

/// Whether it is `above` or ends with it.
pub fn is_at_or_below(wire: &[u8], above: &[u8]) -> bool {
    // An end that looks alike may begin within a label.
    wire.ends_with(above) && suffixes(wire).any(|suffix| suffix.len() == above.len())
}

/// From the left, without the root's.
pub fn labels(wire: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let mut starts = [0; MAX_NAME / 2 + 1];
    let (mut count, mut at) = (0, 0);
    while let Some(&len) = wire.get(at).filter(|len| **len > 0) {
        starts[count] = at as u8;
        count += 1;
        at += 1 + usize::from(len);
    }
    (0..count).map(move |i| {
        let at = usize::from(starts[i]);
        &wire[at + 1..=at + usize::from(wire[at])]
    })
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Result<(), NotAName> {
    match label.len() {
        0 => Err(NotAName::EmptyLabel),
        len @ 1..=MAX_LABEL => {
            wire.push(len as u8);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
            Ok(())
        }
        _ => Err(NotAName::LongLabel),
    }
}

/// A name in presentation form (RFC 1035 section 5.1), in which `\.` and `\046` are a dot within a
/// label. Without a final dot it goes on with `origin`.
fn parse(text: &str, origin: &DnsName) -> Result<DnsName, NotAName> {
    let (mut wire, mut label) = (Vec::with_capacity(text.len() + 2), Vec::new());
    match text {
        "" => return Err(NotAName::Empty),
        "." => return Ok(DnsName::root()),
        _ => {}
    }
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' => {
                push_label(&mut wire, &label)?;
                label.clear();
            }
            b'\\' => label.push(escaped(&mut bytes).ok_or(NotAName::Escape)?),
            byte => label.push(byte),
        }
    }
    if label.is_empty() {
        wire.push(0);
    } else {
        push_label(&mut wire, &label)?;
        wire.extend_from_slice(&origin.0);
    }
    (wire.len() <= MAX_NAME).then(|| DnsName(wire.into())).ok_or(NotAName::Long)
}

/// What a backslash before these bytes means.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let (a, b, c) = (digit(first)?, digit(bytes.next()?)?, digit(bytes.next()?)?);
    u8::try_from(100 * a + 10 * b + c).ok()
}

impl FromStr for DnsName {
    type Err = String;

    /// Presentation form with or without a final dot: all names are absolute.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse_relative(text, &Self::root())
    }
}

impl From<&Hostname> for DnsName {
    fn from(host: &Hostname) -> Self {
        // A host name's labels are 1 to 63 octets, together at most 253.
        let mut wire = Vec::with_capacity(host.len() + 2);
        for label in host.split('.') {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        Self(wire.into())
    }
}

impl Ord for DnsName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.labels().rev().cmp(other.labels().rev())
    }
}

impl PartialOrd for DnsName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for DnsName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for DnsName {
    /// Presentation form without a final dot, except for the root.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for (i, label) in self.labels().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'@' | b'$' | b'(' | b')' => {
                        write!(f, "\\{}", byte as char)?;
                    }
                    byte if byte.is_ascii_graphic() => write!(f, "{}", byte as char)?,
                    byte => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for DnsName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DnsName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
