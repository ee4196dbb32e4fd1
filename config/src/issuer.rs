//! Certificate authorities that Weir gets certificates from by ACME (RFC 8555).

use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{IssuerName, Problem, Problems, decode::decode_partly};

/// A document of kind `Issuer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerManifest {
    /// Always `Issuer`.
    pub kind: String,
    /// A DNS label of at most 40 characters, without `--`.
    pub name: String,
    pub spec: IssuerSpec,
}

/// A certificate authority, and as whom it knows Weir.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerSpec {
    /// The URL of its ACME directory, by `https://`.
    pub directory: String,
    /// Where the authority writes to when something is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<String>,
    /// Says that you have read and accept the authority's terms of service.
    pub terms_agreed: bool,
    /// Which of the authority's profiles certificates are ordered by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// What CAA records call the authority, as `letsencrypt.org`. When all authorities have it, the
    /// zones that Weir serves allow their accounts to issue and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<String>,
    /// How the authority is shown that a name is ours. Left out, by DNS where it is in a zone of Weir's,
    /// else over HTTP. A wildcard is proven by DNS always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<AcmeChallenge>,
    /// What ties the account to one that you have with the authority (external account binding).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eab: Option<EabSpec>,
    /// Authorities in PEM that the directory's own certificate may be of, beside the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<String>,
    /// The lowest is asked first, the others when it fails.
    #[serde(default)]
    pub rank: u16,
}

/// How an authority is shown that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum AcmeChallenge {
    /// It asks for a file on port 80 (RFC 8555, 8.3).
    #[serde(rename = "http-01")]
    Http,
    /// It asks for a certificate on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    Tls,
    /// It asks for a TXT record (RFC 8555, 8.4): in a zone of Weir's, or where a CNAME leads to one.
    #[serde(rename = "dns-01")]
    Dns,
}

impl AcmeChallenge {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::Tls => "tls-alpn-01",
            Self::Dns => "dns-01",
        }
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EabSpec {
    pub key_id: String,
    /// In base64url, as the authority tells it. It is never shown; left out of a change, it stays
    /// what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl IssuerSpec {
    /// Without the key of the external account.
    #[must_use]
    pub fn shown(&self) -> Self {
        let eab = self.eab.as_ref().map(|eab| EabSpec { key_id: eab.key_id.clone(), key: None });
        Self { eab, ..self.clone() }
    }
}

impl std::fmt::Debug for IssuerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuerSpec").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for EabSpec {
    /// The key stays out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EabSpec").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

const MAX_URL: usize = 2048;
const MAX_EMAILS: usize = 10;

impl IssuerManifest {
    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Every problem of it.
    pub fn read(value: Value) -> Result<(Self, IssuerName), Problems> {
        let (manifest, mut problems) = decode_partly::<Self>(value);
        let Some(manifest) = manifest else { return Err(problems) };
        if manifest.kind != "Issuer" {
            let message = format!("`{}` is not `Issuer`", manifest.kind);
            problems.push(Problem::new("/kind", "unknown_kind", message));
        }
        let name = problems.take("/name", "bad_name", manifest.name.parse::<IssuerName>());
        let spec = &manifest.spec;
        let host = spec.directory.strip_prefix("https://").filter(|rest| !rest.starts_with('/'));
        if host.is_none_or(str::is_empty)
            || spec.directory.len() > MAX_URL
            || spec.directory.contains(|c: char| c.is_whitespace())
        {
            let message = "write the URL of an ACME directory, as \
                           https://acme-v02.api.letsencrypt.org/directory";
            problems.push(Problem::new("/spec/directory", "bad_url", message));
        }
        if !spec.terms_agreed {
            let message = "read the authority's terms of service, and write true to accept them";
            problems.push(Problem::new("/spec/terms_agreed", "required", message));
        }
        let is_email = |text: &String| {
            let parts = text.split_once('@');
            parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !b",?".contains(&byte))
        };
        if spec.emails.len() > MAX_EMAILS || !spec.emails.iter().all(is_email) {
            let message = "write at most ten addresses, as ops@example.com";
            problems.push(Problem::new("/spec/emails", "bad_email", message));
        }
        if spec.caa.as_ref().is_some_and(|caa| caa.parse::<crate::Hostname>().is_err()) {
            let message = "write what CAA records call it, as letsencrypt.org";
            problems.push(Problem::new("/spec/caa", "bad_hostname", message));
        }
        let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let key = spec.eab.as_ref().and_then(|eab| eab.key.as_ref());
        if key.is_some_and(|key| key.is_empty() || !key.bytes().all(is_base64url)) {
            let message = "write the key as the authority tells it, in base64url";
            problems.push(Problem::new("/spec/eab/key", "bad_secret", message));
        }
        if let Some(pem) = &spec.roots {
            let read =
                CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
            if read.map_or(true, |roots| roots.is_empty()) {
                let message = "write the authorities' certificates in PEM";
                problems.push(Problem::new("/spec/roots", "bad_pem", message));
            }
        }
        let Some(name) = name else { return Err(problems) };
        problems.or_value((manifest, name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_problem_is_told_with_its_place() {
        let spec = json!({
            "directory": "http://ca.test/dir", "terms_agreed": false, "emails": ["nobody"],
            "eab": {"key_id": "1", "key": "a+b"}, "roots": "no PEM",
        });
        let value = json!({"kind": "Issuer", "name": "le", "spec": spec});
        let problems = IssuerManifest::read(value).unwrap_err();
        let pointers: Vec<_> = problems.0.iter().map(|p| p.pointer.as_str()).collect();
        let spec = ["directory", "terms_agreed", "emails", "eab/key", "roots"];
        assert_eq!(pointers, spec.map(|field| format!("/spec/{field}")));
    }
}
