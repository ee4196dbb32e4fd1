//! Whoever is told by HTTP what names are to lead to, and sees to it.

use std::time::Duration;

use reqwest::{
    Client, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::{Value, json};
use weir_config::WebhookSpec;

use super::{Again, Refusal, Wanted};
use crate::{
    time::{rfc3339, unix_millis},
    webhook::{causes, signed},
};

pub(crate) struct Webhook {
    http: Client,
    url: String,
    secret: Option<String>,
}

impl std::fmt::Debug for Webhook {
    /// The URL and the secret stay out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

impl Webhook {
    pub(super) fn new(http: Client, spec: &WebhookSpec) -> Self {
        Self { http, url: spec.url.clone(), secret: spec.secret.clone() }
    }

    pub(super) async fn test(&self) -> Result<Vec<String>, Refusal> {
        let id = crate::random::hex(16);
        self.send(&id, "provider.test", &json!({})).await?;
        Ok(vec![format!("it took the test message msg_{id}")])
    }

    /// Tells what is wanted; by the same id, so that who is told can leave out what comes twice.
    pub(super) async fn tell(&self, id: &str, wanted: &Wanted) -> Result<(), Refusal> {
        self.send(id, "failover.steering", &json!(wanted)).await
    }

    async fn send(&self, id: &str, kind: &str, data: &Value) -> Result<(), Refusal> {
        let timestamp = rfc3339(unix_millis());
        let body = json!({"type": kind, "timestamp": timestamp, "data": data}).to_string();
        let request = self.http.post(&self.url).header(CONTENT_TYPE, "application/json");
        let request = signed(request, self.secret.as_deref(), &format!("msg_{id}"), &body);
        let answer = request.map_err(Refusal::changed)?.send().await;
        let answer = answer.map_err(|error| Refusal::soon(causes(&error.without_url())))?;
        let status = answer.status();
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let message = format!("the webhook answered {status}");
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Refusal::changed(format!(
                "{message}; write the secret that it knows to the provider"
            ))),
            _ => Err(Refusal { message, again: after.map_or(Again::Soon, Again::After) }),
        }
    }
}
