//! A DNS zone as an operator writes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Span, TsigAlgorithm};

/// A document of kind `Zone`. Its records are written beside it, one set at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ZoneManifest {
    /// Always `Zone`.
    pub kind: String,
    /// The domain name of the zone, as `example.com`.
    pub name: String,
    #[serde(default)]
    pub spec: ZoneSpec,
}

/// A zone that Weir answers for. Its SOA and NS records are made from this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ZoneSpec {
    /// Who answers for the zone, the primary first; left out, `ns1.` in front of the zone's name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The public IP addresses of this Weir: what the names of apps lead to, and nameservers within
    /// the zone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The mail address of who is responsible; left out, `hostmaster@` and the zone's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostmaster: Option<String>,
    /// Whether the names of apps within the zone have records by themselves.
    pub auto: bool,
    pub ttl: TtlSpec,
    pub soa: SoaSpec,
    /// Servers that are told of changes and may copy the zone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secondaries: Vec<SecondarySpec>,
}

/// How long others may keep an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TtlSpec {
    /// Records that say nothing else.
    #[schema(value_type = String)]
    pub records: Span,
    /// Records of apps.
    #[schema(value_type = String)]
    pub auto: Span,
    /// The SOA, the NS records and the addresses of nameservers.
    #[schema(value_type = String)]
    pub nameservers: Span,
    /// That a name or a type does not exist (RFC 2308).
    #[schema(value_type = String)]
    pub negative: Span,
}

/// How secondaries keep up when they are not told (RFC 1035 section 3.3.13).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SoaSpec {
    /// How often a secondary looks for changes.
    #[schema(value_type = String)]
    pub refresh: Span,
    /// After it could not.
    #[schema(value_type = String)]
    pub retry: Span,
    /// How long it answers without having been able to.
    #[schema(value_type = String)]
    pub expire: Span,
}

/// A server that copies the zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondarySpec {
    /// Its IP address; with a port, if it is told of changes at another than 53.
    pub address: String,
    /// What it proves itself with, and we to it; left out, its address is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<TsigKeySpec>,
}

/// A key for TSIG (RFC 8945).
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TsigKeySpec {
    /// A domain name, the same on both sides.
    pub name: String,
    /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
    #[serde(default = "default_algorithm")]
    pub algorithm: String,
    /// In base64. It is never shown; left out of a change, it stays what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for TsigKeySpec {
    /// The secret stays out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TsigKeySpec").field("name", &self.name).finish_non_exhaustive()
    }
}

fn default_algorithm() -> String {
    TsigAlgorithm::default().as_str().to_owned()
}

impl Default for ZoneSpec {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            addresses: Vec::new(),
            hostmaster: None,
            auto: true,
            ttl: TtlSpec::default(),
            soa: SoaSpec::default(),
            secondaries: Vec::new(),
        }
    }
}

impl Default for TtlSpec {
    fn default() -> Self {
        Self {
            records: Span::seconds(5 * 60),
            auto: Span::seconds(60),
            nameservers: Span::seconds(60 * 60),
            negative: Span::seconds(5 * 60),
        }
    }
}

impl Default for SoaSpec {
    /// As RIPE-203 has them, but for `refresh` and `retry`: secondaries are told of changes.
    fn default() -> Self {
        Self {
            refresh: Span::seconds(4 * 60 * 60),
            retry: Span::seconds(60 * 60),
            expire: Span::seconds(14 * 24 * 60 * 60),
        }
    }
}
