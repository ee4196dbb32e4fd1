//! Who answers for zones that are hosted elsewhere, and by what right Weir changes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    Problem, Problems, ProviderName,
    decode::decode_partly,
    notifier::{check_url, is_signing_secret, shown_url},
};

/// A document of kind `Provider`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderManifest {
    /// Always `Provider`.
    pub kind: String,
    /// A DNS label of at most 40 characters, without `--`.
    pub name: String,
    pub spec: ProviderSpec,
}

/// One that carries the decisions of failover policies into its zones: either `cloudflare` or
/// `webhook`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloudflare: Option<CloudflareSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
}

/// Zones at Cloudflare, by its API v4.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloudflareSpec {
    /// An API token that may edit the DNS of the zones. It is never shown; left out of a change, it
    /// stays what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Where the API is.
    pub api: String,
    /// Whether Cloudflare's own proxies stand in front of the targets.
    pub proxied: bool,
    /// Whether the shares of the targets are those of pools of a load balancer, which costs extra
    /// there. If not, all clients go to the target with the largest share.
    pub load_balancer: bool,
}

/// Something that is told by HTTP, and does the rest itself.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSpec {
    /// `https://` or `http://`. What is secret in it is not shown again.
    pub url: String,
    /// `whsec_` and 24 to 64 bytes in base64, which signs each message. It is never shown; left out
    /// of a change, it stays what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl Default for CloudflareSpec {
    fn default() -> Self {
        Self {
            token: None,
            api: "https://api.cloudflare.com/client/v4".to_owned(),
            proxied: false,
            load_balancer: false,
        }
    }
}

impl std::fmt::Debug for CloudflareSpec {
    /// The token stays out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudflareSpec").field("api", &self.api).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WebhookSpec {
    /// The secret, and what may be one in the URL, stay out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSpec").finish_non_exhaustive()
    }
}

impl ProviderSpec {
    /// Without what is secret.
    #[must_use]
    pub fn shown(&self) -> Self {
        let mut shown = self.clone();
        if let Some(cloudflare) = &mut shown.cloudflare {
            cloudflare.token = None;
        }
        if let Some(webhook) = &mut shown.webhook {
            (webhook.url, webhook.secret) = (shown_url(&webhook.url), None);
        }
        shown
    }

    /// The token or the signing secret.
    pub fn secret(&self) -> Option<&str> {
        let token = self.cloudflare.as_ref().and_then(|cloudflare| cloudflare.token.as_deref());
        token.or_else(|| self.webhook.as_ref().and_then(|webhook| webhook.secret.as_deref()))
    }

    /// With this secret, if it has none and `former` is of the same sort.
    #[must_use]
    pub fn or_secret_of(mut self, former: &Self) -> Self {
        if let (Some(now), Some(former)) = (&mut self.cloudflare, &former.cloudflare)
            && now.token.is_none()
        {
            now.token.clone_from(&former.token);
        }
        if let (Some(now), Some(former)) = (&mut self.webhook, &former.webhook)
            && now.secret.is_none()
        {
            now.secret.clone_from(&former.secret);
        }
        self
    }

    /// Where a secret is written.
    pub fn secret_pointer(&self) -> &'static str {
        if self.cloudflare.is_some() { "/spec/cloudflare/token" } else { "/spec/webhook/secret" }
    }
}

impl ProviderManifest {
    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Every problem of it.
    pub fn read(value: Value) -> Result<(Self, ProviderName), Problems> {
        let (manifest, mut problems) = decode_partly::<Self>(value);
        let Some(manifest) = manifest else { return Err(problems) };
        if manifest.kind != "Provider" {
            let message = format!("`{}` is not `Provider`", manifest.kind);
            problems.push(Problem::new("/kind", "unknown_kind", message));
        }
        let name = problems.take("/name", "bad_name", manifest.name.parse::<ProviderName>());
        match (&manifest.spec.cloudflare, &manifest.spec.webhook) {
            (Some(cloudflare), None) => cloudflare.check(&mut problems),
            (None, Some(webhook)) => webhook.check(&mut problems),
            _ => {
                let message = "write either `cloudflare: {token: …}` or `webhook: {url: …}`";
                problems.push(Problem::new("/spec", "conflict", message));
            }
        }
        let Some(name) = name else { return Err(problems) };
        problems.or_value((manifest, name))
    }
}

impl CloudflareSpec {
    fn check(&self, problems: &mut Problems) {
        check_url("/spec/cloudflare/api", &self.api, problems);
        let is_token =
            |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if self.token.as_ref().is_some_and(|token| !is_token(token)) {
            let message = "write the API token as Cloudflare shows it once, without spaces";
            problems.push(Problem::new("/spec/cloudflare/token", "bad_secret", message));
        }
    }
}

impl WebhookSpec {
    fn check(&self, problems: &mut Problems) {
        check_url("/spec/webhook/url", &self.url, problems);
        if self.secret.as_ref().is_some_and(|secret| !is_signing_secret(secret)) {
            let message = "write `whsec_` and 24 to 64 bytes in base64, as by: echo \
                           whsec_$(head -c 32 /dev/urandom | base64)";
            problems.push(Problem::new("/spec/webhook/secret", "bad_secret", message));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(spec: &Value) -> Result<ProviderSpec, Vec<String>> {
        let value = json!({"kind": "Provider", "name": "there", "spec": spec});
        let pointers = |problems: Problems| problems.0.into_iter().map(|p| p.pointer).collect();
        ProviderManifest::read(value).map(|(manifest, _)| manifest.spec).map_err(pointers)
    }

    #[test]
    fn it_is_one_of_two_and_every_problem_has_its_place() {
        assert!(spec(&json!({"cloudflare": {"token": "abc"}})).is_ok());
        for (wrong, at) in [
            (json!({}), "/spec"),
            (json!({"cloudflare": {}, "webhook": {"url": "https://a.example"}}), "/spec"),
            (json!({"cloudflare": {"token": "a b"}}), "/spec/cloudflare/token"),
            (json!({"cloudflare": {"api": "there"}}), "/spec/cloudflare/api"),
            (
                json!({"webhook": {"url": "https://a.example", "secret": "s"}}),
                "/spec/webhook/secret",
            ),
        ] {
            assert_eq!(spec(&wrong).unwrap_err(), [at]);
        }
    }

    #[test]
    fn what_is_secret_is_never_shown_and_stays_when_it_is_left_out() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let url = "https://a.example/hook?key=k";
        let full = [
            spec(&json!({"cloudflare": {"token": "abc"}})).unwrap(),
            spec(&json!({"webhook": {"url": url, "secret": secret}})).unwrap(),
        ];
        for full in &full {
            let shown = full.shown();
            let text = format!("{full:?}{}", serde_json::to_string(&shown).unwrap());
            assert!(!text.contains("abc") && !text.contains("whsec") && !text.contains("key=k"));
            assert_eq!(shown.clone().or_secret_of(full).secret(), full.secret());
        }
        let other = full[0].shown().or_secret_of(&full[1]);
        assert_eq!(other.secret(), None, "the secret of another sort is none of its");
    }
}
