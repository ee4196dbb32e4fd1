//! Zones at Cloudflare, by its API v4 (<https://developers.cloudflare.com/api>).

mod balancers;
mod records;

use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode, Url, header::RETRY_AFTER};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use weir_config::{CloudflareSpec, Hostname};

use super::{Again, Refusal, Wanted};
use crate::webhook::causes;

/// More in one list is never asked for.
const PAGE: &str = "100";

pub(crate) struct Cloudflare {
    http: Client,
    api: String,
    token: String,
    proxied: bool,
    load_balancer: bool,
}

impl std::fmt::Debug for Cloudflare {
    /// The token stays out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloudflare").field("api", &self.api).finish_non_exhaustive()
    }
}

/// A zone that the token may see.
#[derive(Clone, Debug, Deserialize)]
struct Zone {
    id: String,
    name: String,
    account: Account,
}

#[derive(Clone, Debug, Deserialize)]
struct Account {
    id: String,
}

/// A name of somebody else's zone that is served through one at Cloudflare (Cloudflare for `SaaS`).
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct CustomHostname {
    pub(crate) hostname: String,
    /// `active` once it is served.
    pub(crate) status: String,
    pub(crate) ssl: CustomCertificate,
}

/// Its certificate.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct CustomCertificate {
    /// `active` once it is shown; before that what is waited for, as `pending_validation`.
    pub(crate) status: String,
    pub(crate) validation_errors: Vec<ApiError>,
}

/// An answer's envelope.
#[derive(Debug, Deserialize)]
struct Envelope {
    success: bool,
    #[serde(default)]
    errors: Vec<ApiError>,
    #[serde(default)]
    result: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ApiError {
    code: u32,
    pub(crate) message: String,
}

impl Cloudflare {
    pub(super) fn new(http: Client, spec: &CloudflareSpec) -> Self {
        Self {
            http,
            api: spec.api.trim_end_matches('/').to_owned(),
            token: spec.token.clone().unwrap_or_default(),
            proxied: spec.proxied,
            load_balancer: spec.load_balancer,
        }
    }

    pub(super) async fn test(&self) -> Result<Vec<String>, Refusal> {
        #[derive(Deserialize)]
        struct Token {
            status: String,
        }
        let token: Token = self.call(Method::GET, "/user/tokens/verify", &[], None).await?;
        if token.status != "active" {
            return Err(Refusal::changed(format!("the token is {}; make a new one", token.status)));
        }
        let zones: Vec<Zone> =
            self.call(Method::GET, "/zones", &[("per_page", PAGE)], None).await?;
        if zones.is_empty() {
            return Err(no_zone("any name"));
        }
        let names: Vec<_> = zones.iter().map(|zone| zone.name.as_str()).collect();
        Ok(vec!["the token is active".to_owned(), format!("it sees {}", names.join(", "))])
    }

    pub(super) async fn converge(&self, wanted: &Wanted) -> Result<bool, Refusal> {
        let mut has_changed = false;
        for hostname in &wanted.hostnames {
            let zone = self.zone_of(hostname).await?;
            has_changed |= match self.load_balancer {
                true => self.balance(&zone, hostname, wanted).await?,
                false => self.write_records(&zone, hostname, wanted).await?,
            };
        }
        Ok(has_changed)
    }

    pub(super) async fn custom_hostnames(
        &self,
        zone: &Hostname,
    ) -> Result<Vec<CustomHostname>, Refusal> {
        let zone = self.zone_of(zone).await?;
        let path = format!("/zones/{}/custom_hostnames", zone.id);
        self.call(Method::GET, &path, &[("per_page", PAGE)], None).await
    }

    pub(super) async fn purge(&self, hostnames: &[Hostname]) -> Result<(), Refusal> {
        for hostname in hostnames {
            let zone = self.zone_of(hostname).await?;
            let body = json!({"hosts": [&**hostname]});
            let path = format!("/zones/{}/purge_cache", zone.id);
            self.call::<Value>(Method::POST, &path, &[], Some(&body)).await?;
        }
        Ok(())
    }

    /// The zone with the longest name that a host name is in.
    async fn zone_of(&self, hostname: &Hostname) -> Result<Zone, Refusal> {
        let mut name = hostname.trim_start_matches("*.");
        loop {
            let zones = self.call(Method::GET, "/zones", &[("name", name)], None).await?;
            let zones: Vec<Zone> = zones;
            if let Some(zone) = zones.into_iter().find(|zone| zone.name == name) {
                return Ok(zone);
            }
            match name.split_once('.') {
                Some((_, parent)) if parent.contains('.') => name = parent,
                _ => return Err(no_zone(hostname)),
            }
        }
    }

    /// One call, once: who has read what there is tries again as a whole.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, Refusal> {
        let url = Url::parse_with_params(&format!("{}{path}", self.api), query);
        let url = url.map_err(|error| Refusal::changed(format!("the API's URL: {error}")))?;
        let request = self.http.request(method, url).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await;
        let answer = answer.map_err(|error| Refusal::soon(causes(&error.without_url())))?;
        let (status, after) = (answer.status(), retry_after(&answer));
        let text = answer.bytes().await;
        let text = text.map_err(|error| Refusal::soon(causes(&error.without_url())))?;
        let envelope = serde_json::from_slice::<Envelope>(&text).ok();
        match envelope {
            Some(Envelope { success: true, result, .. }) if status.is_success() => {
                let odd = |error| Refusal::changed(format!("it answers another API: {error}"));
                serde_json::from_value(result).map_err(odd)
            }
            envelope => {
                let errors = envelope.map(|envelope| envelope.errors).unwrap_or_default();
                Err(refusal(status, &errors, after))
            }
        }
    }
}

/// What an answer that is no success means, and what to do about it.
fn refusal(status: StatusCode, errors: &[ApiError], after: Option<Duration>) -> Refusal {
    let told: Vec<_> = errors.iter().map(|e| format!("{} ({})", e.message, e.code)).collect();
    let told = if told.is_empty() { status.to_string() } else { told.join("; ") };
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            let message = format!("Cloudflare asks to come more seldom: {told}");
            Refusal { message, again: after.map_or(Again::Soon, Again::After) }
        }
        status if status.is_server_error() => {
            let message = format!("Cloudflare failed: {told}");
            Refusal { message, again: after.map_or(Again::Soon, Again::After) }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Refusal::changed(format!(
            "Cloudflare refuses the token: {told}; make one that may edit the DNS of the zone (and \
             its load balancers, if those are used), and write it to the provider"
        )),
        // What was read before has changed since: to read it again helps.
        StatusCode::CONFLICT | StatusCode::NOT_FOUND => {
            Refusal::soon(format!("Cloudflare has something else by now: {told}"))
        }
        _ => Refusal::changed(format!("Cloudflare refuses it: {told}")),
    }
}

fn no_zone(name: &str) -> Refusal {
    Refusal::changed(format!(
        "the token sees no zone that {name} is in; give it the right to read the zone and to edit \
         its DNS, or host the name elsewhere"
    ))
}

/// After how many seconds to come again (RFC 9110, 10.2.3). The other form, a date, is not used by
/// this API.
fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
