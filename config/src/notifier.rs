//! Who is to be told of incidents.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{NotifierName, Problem, Problems, decode::decode_partly};

/// A document of kind `Notifier`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifierManifest {
    /// Always `Notifier`.
    pub kind: String,
    /// A DNS label of at most 40 characters, without `--`.
    pub name: String,
    pub spec: NotifierSpec,
}

/// Somebody who is told of incidents by HTTP.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifierSpec {
    /// `https://` or `http://`. What is secret in it, as in Slack's, is not shown again.
    pub url: String,
    #[serde(default)]
    pub format: NotifierFormat,
    /// `whsec_` and 24 to 64 bytes in base64, which signs each message. It is never shown; left out
    /// of a change, it stays what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What is told; everything when left out.
    #[serde(default = "every_event")]
    pub events: Vec<NotifierEvent>,
    /// Nothing less grave is told.
    #[serde(default)]
    pub min_severity: Severity,
}

impl NotifierSpec {
    /// Without the secret, and without what may be one in the URL: of Slack's that is the path, of
    /// others' what is before an `@` or behind a `?`.
    #[must_use]
    pub fn shown(&self) -> Self {
        let url = match self.format {
            NotifierFormat::Slack => format!("{}/…", origin_and_path(&self.url).0),
            NotifierFormat::Standard => shown_url(&self.url),
        };
        Self { url, secret: None, ..self.clone() }
    }
}

/// Without what may be secret in it: what is before an `@` or behind a `?`.
pub(crate) fn shown_url(url: &str) -> String {
    let (origin, path) = origin_and_path(url);
    match path.split_once('?') {
        Some((path, _)) => format!("{origin}{path}?…"),
        None => format!("{origin}{path}"),
    }
}

/// The scheme and the host of a URL without its user, and what comes behind that.
fn origin_and_path(url: &str) -> (String, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = match rest.find(['/', '?']) {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    (format!("{scheme}://{host}"), path)
}

impl std::fmt::Debug for NotifierSpec {
    /// The secret, and what may be one in the URL, stay out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotifierSpec").field("format", &self.format).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotifierFormat {
    /// Signed JSON by <https://www.standardwebhooks.com>.
    #[default]
    Standard,
    /// A message for a Slack webhook.
    Slack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum NotifierEvent {
    #[serde(rename = "incident.opened")]
    Opened,
    #[serde(rename = "incident.resolved")]
    Resolved,
}

/// How grave an incident is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It serves, but somebody has to look.
    #[default]
    Warning,
    /// Something does not serve, or soon will not.
    Critical,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl NotifierEvent {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "incident.opened",
            Self::Resolved => "incident.resolved",
        }
    }
}

fn every_event() -> Vec<NotifierEvent> {
    vec![NotifierEvent::Opened, NotifierEvent::Resolved]
}

const MAX_URL: usize = 2048;
/// Of Standard Webhooks.
pub const SECRET_PREFIX: &str = "whsec_";
/// Characters of base64 for 24 and 64 bytes.
const SECRET_LENGTHS: std::ops::RangeInclusive<usize> = 32..=88;

impl NotifierManifest {
    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Every problem of it.
    pub fn read(value: Value) -> Result<(Self, NotifierName), Problems> {
        let (manifest, mut problems) = decode_partly::<Self>(value);
        let Some(manifest) = manifest else { return Err(problems) };
        if manifest.kind != "Notifier" {
            let message = format!("`{}` is not `Notifier`", manifest.kind);
            problems.push(Problem::new("/kind", "unknown_kind", message));
        }
        let name = problems.take("/name", "bad_name", manifest.name.parse::<NotifierName>());
        let NotifierSpec { url, secret, events, .. } = &manifest.spec;
        check_url("/spec/url", url, &mut problems);
        if secret.as_ref().is_some_and(|secret| !is_signing_secret(secret)) {
            let message = "write `whsec_` and 24 to 64 bytes in base64, as by: echo \
                           whsec_$(head -c 32 /dev/urandom | base64)";
            problems.push(Problem::new("/spec/secret", "bad_secret", message));
        }
        if events.is_empty() {
            let message = "write incident.opened, incident.resolved or both";
            problems.push(Problem::new("/spec/events", "out_of_range", message));
        }
        let Some(name) = name else { return Err(problems) };
        problems.or_value((manifest, name))
    }
}

/// Whether something can be sent there by HTTP.
pub(crate) fn check_url(pointer: &str, url: &str, problems: &mut Problems) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if !has_host || url.len() > MAX_URL || url.contains(|c: char| c.is_whitespace()) {
        let message = "write a URL, as https://example.com/weir";
        problems.push(Problem::new(pointer, "bad_url", message));
    }
}

/// Whether it is a secret of Standard Webhooks.
pub(crate) fn is_signing_secret(text: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    text.strip_prefix(SECRET_PREFIX).is_some_and(|key| {
        SECRET_LENGTHS.contains(&key.len()) && key.len() % 4 == 0 && key.bytes().all(is_base64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_a_url_is_not_shown() {
        for (format, url, shown) in [
            (
                NotifierFormat::Slack,
                "https://hooks.slack.com/services/T/k",
                "https://hooks.slack.com/…",
            ),
            (NotifierFormat::Standard, "https://u:k@example.com/hook", "https://example.com/hook"),
            (
                NotifierFormat::Standard,
                "https://example.com/hook?key=k",
                "https://example.com/hook?…",
            ),
            (NotifierFormat::Standard, "https://u:k@example.com?key=k", "https://example.com?…"),
        ] {
            let (secret, events, min_severity) = (None, every_event(), Severity::Warning);
            let url = url.to_owned();
            let spec = NotifierSpec { url, format, secret, events, min_severity };
            assert_eq!(spec.shown().url, shown);
        }
    }
}
