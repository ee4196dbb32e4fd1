//! What of a request says whose it is.

use std::{str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::hash::stable_hash;

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

impl HashKey {
    /// The hash of a request's key, for [`Choice::key`](crate::Choice::key). It means the same in
    /// every process, version and machine, so all that look a key up agree whose it is.
    pub fn hash(key: impl AsRef<[u8]>) -> u64 {
        stable_hash(&[key.as_ref()])
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
