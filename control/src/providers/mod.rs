//! Zones that are hosted elsewhere: what the names of failover policies lead to there.
//!
//! An adapter reads before it writes and writes only what differs, so that it can be tried again at
//! any time, and what somebody else has changed is put right the next time it looks.

mod carrier;
mod cloudflare;
#[cfg(test)]
mod tests;
mod webhook;

use std::{net::IpAddr, time::Duration};

use reqwest::{Client, redirect::Policy};
use serde::Serialize;
use weir_config::{FailoverName, Hostname, ProviderSpec, TargetName};

pub(crate) use self::{
    carrier::{AllCarried, Carried, carry},
    cloudflare::CustomHostname,
};
use self::{cloudflare::Cloudflare, webhook::Webhook};

/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What some host names are to lead to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Wanted {
    pub(crate) policy: FailoverName,
    /// Grows with every change of the shares.
    pub(crate) epoch: u64,
    pub(crate) hostnames: Vec<Hostname>,
    pub(crate) targets: Vec<WantedTarget>,
    /// In seconds.
    pub(crate) ttl: u32,
}

/// One that can serve them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct WantedTarget {
    pub(crate) name: TargetName,
    /// Of the clients, in ten-thousandths.
    pub(crate) share: u16,
    #[serde(flatten)]
    pub(crate) place: Place,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    Cname(Hostname),
    Addresses(Vec<IpAddr>),
}

impl Wanted {
    /// The target with the largest share, of equals the first; `None` if nobody has any.
    fn leading(&self) -> Option<&WantedTarget> {
        let with_share = self.targets.iter().filter(|target| target.share > 0);
        with_share.reduce(|best, target| if target.share > best.share { target } else { best })
    }
}

/// Why something was not done there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// What is wrong and what to do about it, with nothing secret in it.
    pub(crate) message: String,
    /// Whether it may succeed if it is just tried again, and when that is asked for.
    pub(crate) again: Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Soon,
    After(Duration),
    /// Only when somebody has changed something.
    Changed,
}

impl Refusal {
    fn changed(message: impl Into<String>) -> Self {
        Self { message: message.into(), again: Again::Changed }
    }

    fn soon(message: impl Into<String>) -> Self {
        Self { message: message.into(), again: Again::Soon }
    }
}

/// Who changes zones that are hosted elsewhere.
#[derive(Debug)]
pub(crate) enum Adapter {
    Cloudflare(Cloudflare),
    Webhook(Webhook),
}

impl Adapter {
    /// # Errors
    /// When its spec is of no kind, or there is no HTTP client.
    pub(crate) fn new(spec: &ProviderSpec) -> Result<Self, Refusal> {
        let http = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
        let http = http.map_err(|error| Refusal::changed(format!("no HTTP client: {error}")))?;
        match (&spec.cloudflare, &spec.webhook) {
            (Some(cloudflare), _) => Ok(Self::Cloudflare(Cloudflare::new(http, cloudflare))),
            (None, Some(webhook)) => Ok(Self::Webhook(Webhook::new(http, webhook))),
            (None, None) => Err(Refusal::changed("the provider is of no kind; write it anew")),
        }
    }

    /// Whether it could do what is asked of it: one line for each thing that was looked at.
    pub(crate) async fn test(&self) -> Result<Vec<String>, Refusal> {
        match self {
            Self::Cloudflare(cloudflare) => cloudflare.test().await,
            Self::Webhook(webhook) => webhook.test().await,
        }
    }

    /// Makes names lead to what they are to; `id` is the same for each try. True if anything had to
    /// be changed for that.
    pub(crate) async fn converge(&self, id: &str, wanted: &Wanted) -> Result<bool, Refusal> {
        match self {
            Self::Cloudflare(cloudflare) => cloudflare.converge(wanted).await,
            Self::Webhook(webhook) => webhook.tell(id, wanted).await.map(|()| true),
        }
    }

    /// Whether somebody else may change what was made, so that it has to be looked at.
    fn may_drift(&self) -> bool {
        matches!(self, Self::Cloudflare(_))
    }

    /// What is known of the certificates that CDNs at this provider have for a name.
    pub(crate) async fn custom_hostnames(
        &self,
        zone: &Hostname,
    ) -> Result<Vec<CustomHostname>, Refusal> {
        match self {
            Self::Cloudflare(cloudflare) => cloudflare.custom_hostnames(zone).await,
            Self::Webhook(_) => Err(Refusal::changed("a webhook has no custom host names")),
        }
    }

    /// Has it forget what it has cached of these names.
    pub(crate) async fn purge(&self, hostnames: &[Hostname]) -> Result<(), Refusal> {
        match self {
            Self::Cloudflare(cloudflare) => cloudflare.purge(hostnames).await,
            Self::Webhook(_) => Err(Refusal::changed("a webhook has no cache")),
        }
    }
}
