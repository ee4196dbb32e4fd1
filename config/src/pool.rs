//! What a request chooses its endpoint from.

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{EndpointActivity, EndpointId, HashAlgorithm, Moment, ShardName};

/// Endpoints that share a load, with the table that says whose a key is.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    endpoints: Vec<Endpoint>,
    balance: Balance,
}

/// An instance or a member that takes requests.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub id: EndpointId,
    pub address: SocketAddr,
    /// Its share beside the others'.
    pub weight: u16,
    /// Since when it has been ready; slow start counts from then.
    pub ready_since: Moment,
    /// Where the proxy counts; control reads the same entry.
    pub activity: Arc<EndpointActivity>,
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, self.address, self.weight, self.ready_since)
            == (&other.id, other.address, other.weight, other.ready_since)
    }
}

/// How endpoints share a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// `None`: the less loaded of two taken at random.
    pub hash: Option<HashKey>,
    pub algorithm: HashAlgorithm,
    /// How many times the mean load an endpoint may carry before the next one takes its requests.
    pub max_load: f64,
    /// Zero for none.
    pub slow_start: Duration,
}

/// What of a request is hashed. Written `host`, `ip`, `path`, `cookie:NAME` or `header:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    Host,
    /// The client's address.
    Ip,
    Path,
    Cookie(Arc<str>),
    /// The name is lowercase.
    Header(Arc<str>),
}

/// Where an app's requests go while it serves.
#[derive(Clone, Debug, PartialEq)]
pub enum Backends {
    /// Its own instances or upstreams.
    Own(Arc<Pool>),
    /// Shards of the snapshot, one of them by a hash of the host name.
    Shards(Arc<[ShardName]>),
}

impl Pool {
    pub fn new(endpoints: Vec<Endpoint>, balance: Balance) -> Self {
        Self { endpoints, balance }
    }

    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub fn balance(&self) -> &Balance {
        &self.balance
    }
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            hash: None,
            algorithm: HashAlgorithm::default(),
            max_load: 1.25,
            slow_start: Duration::ZERO,
        }
    }
}

impl FromStr for HashKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_token = |name: &str| {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            !name.is_empty() && name.bytes().all(token)
        };
        match text.split_once(':') {
            None if text == "host" => Ok(Self::Host),
            None if text == "ip" => Ok(Self::Ip),
            None if text == "path" => Ok(Self::Path),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.into())),
            Some(("header", name)) if is_token(name) => {
                Ok(Self::Header(name.to_ascii_lowercase().into()))
            }
            _ => Err(format!(
                "`{text}` cannot be hashed; write host, ip, path, cookie:NAME or header:NAME"
            )),
        }
    }
}

impl Serialize for HashKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Host => serializer.serialize_str("host"),
            Self::Ip => serializer.serialize_str("ip"),
            Self::Path => serializer.serialize_str("path"),
            Self::Cookie(name) => serializer.collect_str(&format_args!("cookie:{name}")),
            Self::Header(name) => serializer.collect_str(&format_args!("header:{name}")),
        }
    }
}

impl<'de> Deserialize<'de> for HashKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
