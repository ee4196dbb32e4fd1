//! Zones and their records.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Phase;

/// How a zone is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneStatus {
    /// `progressing`, `ready` or `failed`.
    pub phase: Phase,
    /// The generation of the spec that this status is about; 0 as long as it is about none.
    pub observed_generation: u64,
    /// Of the SOA, if it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
    /// How many records are served.
    pub records: u64,
    /// How many names have records that were written.
    pub names: u64,
    /// Why it is not served as it should be, or what to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The records of one name and type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordSetResource {
    pub name: String,
    pub r#type: String,
    /// In seconds.
    pub ttl: u32,
    /// The data of each record as in a zone file; all names are absolute.
    pub data: Vec<String>,
    /// `custom` if it was written, `auto` if it is there by itself.
    pub source: RecordSource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordSource {
    Auto,
    Custom,
}

/// What a change of several record sets, or an import, came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordsChanged {
    /// How many sets are as they were asked for.
    pub sets: u64,
    /// What was left out, because it is made by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}
