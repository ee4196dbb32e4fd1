//! A document of any kind.

use serde_json::Value;

use crate::{
    App, AppManifest, FailoverManifest, FailoverPolicy, Host, HostManifest, HostedZone, Hostname,
    IssuerManifest, IssuerName, NotifierManifest, NotifierName, Problem, Problems,
    ProviderManifest, ProviderName, Shard, ShardManifest, ZoneManifest,
};

/// What one document of a file says, as it is written and as it is meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Manifest {
    App(Box<(AppManifest, App)>),
    Shard(Box<(ShardManifest, Shard)>),
    Host(Box<(HostManifest, Host)>),
    Zone(Box<(ZoneManifest, HostedZone)>),
    Issuer(Box<(IssuerManifest, IssuerName)>),
    FailoverPolicy(Box<(FailoverManifest, FailoverPolicy)>),
    Provider(Box<(ProviderManifest, ProviderName)>),
    Notifier(Box<(NotifierManifest, NotifierName)>),
}

/// The kinds of documents there are.
const KINDS: [&str; 8] =
    ["App", "Shard", "Host", "Zone", "Provider", "FailoverPolicy", "Issuer", "Notifier"];

impl Manifest {
    /// Reads a document by its kind and checks it.
    ///
    /// # Errors
    /// An unknown kind, or every problem of the document.
    pub fn read(value: Value, base_domain: &Hostname) -> Result<Self, Problems> {
        match value.get("kind").and_then(Value::as_str) {
            Some("Shard") => Shard::read(value).map(|read| Self::Shard(Box::new(read))),
            Some("Host") => Host::read(value).map(|read| Self::Host(Box::new(read))),
            Some("Zone") => HostedZone::read(value).map(|read| Self::Zone(Box::new(read))),
            Some("Issuer") => IssuerManifest::read(value).map(|read| Self::Issuer(Box::new(read))),
            Some("FailoverPolicy") => {
                FailoverPolicy::read(value).map(|read| Self::FailoverPolicy(Box::new(read)))
            }
            Some("Provider") => {
                ProviderManifest::read(value).map(|read| Self::Provider(Box::new(read)))
            }
            Some("Notifier") => {
                NotifierManifest::read(value).map(|read| Self::Notifier(Box::new(read)))
            }
            Some(kind) if !KINDS.contains(&kind) => {
                let message =
                    format!("`{kind}` is not a known kind; known are {}", KINDS.join(", "));
                Err(Problems(vec![Problem::new("/kind", "unknown_kind", message)]))
            }
            _ => App::read(value, base_domain).map(|read| Self::App(Box::new(read))),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::App(app) => &app.0.name,
            Self::Shard(shard) => &shard.0.name,
            Self::Host(host) => &host.0.name,
            Self::Zone(zone) => &zone.0.name,
            Self::Issuer(issuer) => &issuer.0.name,
            Self::FailoverPolicy(policy) => &policy.0.name,
            Self::Provider(provider) => &provider.0.name,
            Self::Notifier(notifier) => &notifier.0.name,
        }
    }
}
