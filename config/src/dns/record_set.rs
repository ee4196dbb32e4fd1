//! The records of one name and type, as they go into an answer.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    Choice, DnsName, RecordType, Steering,
    hex::{Hex, unhex},
};

/// What comes before each record's data: a pointer to the question's name, the type, the class, the
/// TTL, and the length of the data.
const HEAD: usize = 12;
/// The first octet of the question's name in a message, as a compressed name.
const QUESTION: [u8; 2] = [0xc0, 12];
const CLASS_IN: u16 = 1;
/// RFC 2181 section 8.
const MAX_TTL: u32 = i32::MAX as u32;
/// So that all of them fit into a message over TCP, with the question, a signature and what else
/// belongs to it.
const MAX_ENCODED: usize = 64_000;

/// The records of one name and type, of class IN. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordSet {
    rtype: RecordType,
    ttl: u32,
    len: u16,
    encoded: Arc<[u8]>,
    steering: Option<Arc<Steering>>,
}

/// Why records are not a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASet {
    #[error("there is no record of type {0}")]
    Empty(RecordType),
    #[error("{0} is asked for, and no record is of that type")]
    Meta(RecordType),
    #[error("a name has one {0} record at most")]
    Several(RecordType),
    #[error("the {0} records do not fit into one message: at most 64,000 octets")]
    Large(RecordType),
    #[error("a TTL is at most 2147483647 seconds")]
    Ttl,
    #[error("what is given is not the data of a record of type {0}")]
    Data(RecordType),
    #[error("there is nothing to choose from, or it is not of one type")]
    Choices,
}

impl RecordSet {
    /// From the data of each record, in which names are not compressed. The records are put into
    /// canonical order (RFC 4034 section 6.3), and equal ones are one. `ttl` is in seconds.
    ///
    /// # Errors
    /// Why such records are not a set.
    pub fn new<D: AsRef<[u8]>>(
        rtype: RecordType,
        ttl: u32,
        data: impl IntoIterator<Item = D>,
    ) -> Result<Self, NotASet> {
        if rtype.is_meta() {
            return Err(NotASet::Meta(rtype));
        }
        if ttl > MAX_TTL {
            return Err(NotASet::Ttl);
        }
        let mut records = Vec::new();
        let mut size = 0;
        for record in data {
            check(rtype, record.as_ref())?;
            size += HEAD + record.as_ref().len();
            if size > MAX_ENCODED {
                return Err(NotASet::Large(rtype));
            }
            records.push(record);
        }
        records.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        records.dedup_by(|a, b| a.as_ref() == b.as_ref());
        match records.len() {
            0 => return Err(NotASet::Empty(rtype)),
            2.. if rtype.is_single() => return Err(NotASet::Several(rtype)),
            _ => {}
        }
        let mut encoded = Vec::with_capacity(size);
        for record in &records {
            let record = record.as_ref();
            encoded.extend_from_slice(&QUESTION);
            encoded.extend_from_slice(&rtype.0.to_be_bytes());
            encoded.extend_from_slice(&CLASS_IN.to_be_bytes());
            encoded.extend_from_slice(&ttl.to_be_bytes());
            encoded.extend_from_slice(&(record.len() as u16).to_be_bytes());
            encoded.extend_from_slice(record);
        }
        let (len, encoded) = (records.len() as u16, encoded.into());
        Ok(Self { rtype, ttl, len, encoded, steering: None })
    }

    /// Records that are chosen between when they are asked for. To secondaries, who cannot choose,
    /// they are those together that somebody has a share of, with the shortest of their TTLs; of
    /// types of which a name has one record, what most clients are given.
    ///
    /// # Errors
    /// [`NotASet::Choices`], or why those together are not a set.
    pub fn steered(steering: Steering) -> Result<Self, NotASet> {
        let sets = || steering.choices.iter().filter_map(|choice| choice.records.as_ref());
        let first = sets().next().ok_or(NotASet::Choices)?;
        let rtype = first.rtype;
        if sets().any(|set| set.rtype != rtype || set.steering.is_some()) {
            return Err(NotASet::Choices);
        }
        let ttl = sets().map(Self::ttl).min().unwrap_or_default();
        let all = match rtype.is_single() {
            true => {
                let main = steering.main().and_then(|choice| choice.records.as_ref());
                main.unwrap_or(first).with_ttl(ttl)
            }
            false => {
                let has_share = |choice: &&Choice| choice.weight > 0 && choice.records.is_some();
                let any = steering.choices.iter().any(|choice| has_share(&choice));
                let told = steering.choices.iter().filter(|choice| !any || has_share(choice));
                let told = told.filter_map(|choice| choice.records.as_ref());
                Self::new(rtype, ttl, told.flat_map(Self::data))?
            }
        };
        Ok(Self { steering: Some(Arc::new(steering)), ..all })
    }

    /// Whether it is among the records at its name that secondaries are told: of a CNAME beside
    /// addresses, for some clients the one and for others the other, what most clients are given.
    pub fn is_told(&self, fellows: &[Self]) -> bool {
        let cname = fellows.iter().find(|set| set.rtype == RecordType::CNAME);
        let Some(steering) = cname.and_then(Self::steering) else { return true };
        let is_main = steering.main().is_some_and(|choice| choice.records.is_some());
        is_main == (self.rtype == RecordType::CNAME)
    }

    /// The same records with another TTL, at most 2147483647 seconds.
    pub fn with_ttl(&self, ttl: u32) -> Self {
        let ttl = ttl.min(MAX_TTL);
        let mut encoded = self.encoded.to_vec();
        let mut at = 0;
        for record in self.data() {
            encoded[at + 6..at + 10].copy_from_slice(&ttl.to_be_bytes());
            at += HEAD + record.len();
        }
        Self { ttl, encoded: encoded.into(), ..self.clone() }
    }

    /// What an answer is chosen from, if it is.
    pub fn steering(&self) -> Option<&Steering> {
        self.steering.as_deref()
    }

    pub fn rtype(&self) -> RecordType {
        self.rtype
    }

    /// In seconds.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// How many records there are: at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.len.into()
    }

    /// The data of each record.
    pub fn data(&self) -> impl Iterator<Item = &[u8]> {
        records(&self.encoded)
    }

    /// The data of the first record.
    pub fn first(&self) -> &[u8] {
        self.data().next().unwrap_or_default()
    }

    /// All records as they are in an answer to a question about their owner, which each names by a
    /// pointer of two octets.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Of each record in [`Self::encoded`], what comes after its owner.
    pub fn ownerless(&self) -> impl Iterator<Item = &[u8]> {
        split(&self.encoded).map(|record| &record[QUESTION.len()..])
    }
}

/// Each record of those that are encoded.
fn split(encoded: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let len = rest.get(HEAD - 2..HEAD)?;
        let end = HEAD + usize::from(u16::from_be_bytes([len[0], len[1]]));
        let (record, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(record)
    })
}

fn records(encoded: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(encoded).map(|record| &record[HEAD..])
}

/// Those types are looked into that an answer goes on from.
fn check(rtype: RecordType, data: &[u8]) -> Result<(), NotASet> {
    let is_name = |wire: &[u8]| DnsName::from_wire(wire).is_ok();
    let is_right = match rtype {
        RecordType::A => data.len() == 4,
        RecordType::AAAA => data.len() == 16,
        RecordType::NS | RecordType::CNAME | RecordType::DNAME | RecordType::PTR => is_name(data),
        RecordType::MX => data.get(2..).is_some_and(is_name),
        RecordType::SOA => is_soa(data),
        _ => true,
    };
    is_right.then_some(()).ok_or(NotASet::Data(rtype))
}

/// Two names and five numbers (RFC 1035 section 3.3.13).
fn is_soa(data: &[u8]) -> bool {
    let Some((names, _numbers)) = data.split_last_chunk::<20>() else { return false };
    let ends = names.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at + 1);
    let is_name = |wire: &[u8]| DnsName::from_wire(wire).is_ok();
    ends.into_iter().any(|end| is_name(&names[..end]) && is_name(&names[end..]))
}

impl fmt::Debug for RecordSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.ttl, self.rtype)?;
        self.data().try_for_each(|record| write!(f, " {}", Hex(record)))
    }
}

/// As kept on disk.
#[derive(Serialize, Deserialize)]
struct Saved {
    rtype: RecordType,
    ttl: u32,
    /// In hexadecimal digits; none if it is steered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    data: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steering: Option<Arc<Steering>>,
}

impl Serialize for RecordSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = |record: &[u8]| Hex(record).to_string();
        let data = if self.steering.is_some() { vec![] } else { self.data().map(digits).collect() };
        let (rtype, ttl, steering) = (self.rtype, self.ttl, self.steering.clone());
        Saved { rtype, ttl, data, steering }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RecordSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = Saved::deserialize(deserializer)?;
        if let Some(steering) = saved.steering {
            return Self::steered(Arc::unwrap_or_clone(steering)).map_err(de::Error::custom);
        }
        let data: Option<Vec<_>> = saved.data.iter().map(|text| unhex(text)).collect();
        let data = data.ok_or_else(|| de::Error::custom("expected hexadecimal digits"))?;
        Self::new(saved.rtype, saved.ttl, data).map_err(de::Error::custom)
    }
}
