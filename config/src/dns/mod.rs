//! What the DNS serves: names, sets of records, zones.
//!
//! Everything is kept as it goes over the wire, so that an answer is copied together and not made.
//! What is written of it, and in which form, is not known here.

mod hex;
mod name;
mod record_set;
mod record_type;
mod secondary;
mod steering;
#[cfg(test)]
mod tests;
mod zone;

pub(crate) use self::zone::NameMap;
pub use self::{
    name::{DnsName, MAX_NAME, NotAName, is_at_or_below, labels, parent, suffixes},
    record_set::{NotASet, RecordSet},
    record_type::RecordType,
    secondary::{Secondary, TsigAlgorithm, TsigKey},
    steering::{Choice, Chosen, Health, Policy, Steering},
    zone::{Node, OutOfZone, Zone},
};
