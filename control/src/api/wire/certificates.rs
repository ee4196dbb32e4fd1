//! Certificates and their authorities on the wire.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A certificate that is there, is wanted, or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CertificateResource {
    /// Always `Certificate`.
    pub kind: String,
    /// The first of its names.
    pub name: String,
    pub names: Vec<String>,
    /// `local` (Weir's own authority), `acme` or `upload`.
    pub source: String,
    /// `valid`, `pending` (wanted and not there yet), `failed` (the last try was in vain) or
    /// `ended`.
    pub state: String,
    /// Which authority it is of, by its name here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// How an authority is shown that the names are ours: `http-01`, `tls-alpn-01` or
    /// `dns-01`; left out if it is not ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// When it is to be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<String>,
    /// Tries in a row that were in vain.
    pub failures: u32,
    /// Of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
}

/// A certificate of one's own.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateUpload {
    /// PEM, the certificate itself first and then its authorities.
    pub chain: String,
    /// PEM. It is never shown.
    pub key: String,
}

impl fmt::Debug for CertificateUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateUpload").finish_non_exhaustive()
    }
}

/// How an authority does. Its spec is shown without the key of the external account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IssuerStatus {
    /// As whom the authority knows this Weir; what a CAA record may name (RFC 8657).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Why the last order of it was in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A host name of an app outside the base domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DomainResource {
    /// Always `Domain`.
    pub kind: String,
    pub name: String,
    pub app: String,
    /// `ready`, `wrong` (it leads elsewhere too, or nobody may issue for it), `missing` (it leads
    /// nowhere or elsewhere) or `unknown`.
    pub state: String,
    /// A sentence.
    pub message: String,
    /// What to write, in the form of a zone file: any one of these groups of records.
    pub needed: Vec<Vec<String>>,
    /// What is seen now.
    pub seen: Vec<String>,
    /// The state of its certificate, or `none`.
    pub certificate: String,
    /// When the DNS was asked; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<String>,
}
