//! Servers that have copies of a zone.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use super::{
    DnsName,
    hex::{Hex, unhex},
};

/// A server that fetches a zone and is told when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secondary {
    /// Where it is told; it may fetch from any port of this address.
    pub address: SocketAddr,
    /// What it signs its requests with; `None` if its address is proof enough.
    pub key: Option<Arc<TsigKey>>,
}

/// A secret that two servers share to sign their messages with (RFC 8945).
#[derive(Clone, PartialEq, Eq)]
pub struct TsigKey {
    pub name: DnsName,
    pub algorithm: TsigAlgorithm,
    pub secret: Zeroizing<Vec<u8>>,
}

/// How messages are signed: those that RFC 8945 section 6 asks for or allows, and no broken hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TsigAlgorithm {
    #[default]
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl TsigAlgorithm {
    const ALL: [Self; 3] = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

impl FromStr for TsigAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |algorithm: &Self| algorithm.as_str().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(named).ok_or_else(|| {
            format!("`{text}` is not an algorithm: write hmac-sha256, hmac-sha384 or hmac-sha512")
        })
    }
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsigKey({}, {})", self.name, self.algorithm.as_str())
    }
}

/// As kept on disk.
#[derive(Serialize, Deserialize)]
struct Saved {
    name: DnsName,
    algorithm: String,
    /// In hexadecimal digits.
    secret: Zeroizing<String>,
}

impl Serialize for TsigKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Saved {
            name: self.name.clone(),
            algorithm: self.algorithm.as_str().to_owned(),
            secret: Zeroizing::new(Hex(&self.secret).to_string()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TsigKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = Saved::deserialize(deserializer)?;
        let algorithm = saved.algorithm.parse().map_err(de::Error::custom)?;
        let secret = unhex(&saved.secret);
        let secret = secret.ok_or_else(|| de::Error::custom("expected hexadecimal digits"))?;
        Ok(Self { name: saved.name, algorithm, secret: secret.into() })
    }
}
