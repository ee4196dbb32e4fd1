//! Names that keep promises: once parsed, they are valid, lowercase and cheap to share.

use std::{
    borrow::Borrow,
    fmt,
    ops::Deref,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Deserializer, Serialize, de};

/// Names that operators and mail or DNS software expect to mean something else, or that Weir may
/// want for itself under the base domain.
pub const RESERVED_NAMES: &[&str] = &[
    "_acme-challenge",
    "admin",
    "api",
    "autoconfig",
    "autodiscover",
    "ftp",
    "imap",
    "localhost",
    "mail",
    "mta-sts",
    "ns",
    "ns1",
    "ns2",
    "ns3",
    "ns4",
    "pop",
    "smtp",
    "weir",
    "wpad",
    "www",
];

/// The longest name of an app or a shard, in bytes: leaves room for `<environment>--` within a 63-byte DNS label.
const MAX_LABEL: usize = 40;

/// The name of an app: a DNS label without `--` (so that `env--app.base` parses), starting with a
/// letter, at most 40 bytes, and not in [`RESERVED_NAMES`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct AppName(Arc<str>);

/// Below it, apps on devices call others. Nobody can own it in the public DNS (ICANN has reserved
/// `internal`).
const PRIVATE_DOMAIN: &str = "weir.internal";

impl AppName {
    /// Where other apps reach it that it allows: `<app>.weir.internal`.
    pub fn private_hostname(&self) -> String {
        format!("{self}.{PRIVATE_DOMAIN}")
    }

    /// The app of a private host name; `host` is lowercase and without a port.
    pub fn of_private_hostname(host: &str) -> Option<Self> {
        host.strip_suffix(PRIVATE_DOMAIN)?.strip_suffix('.')?.parse().ok()
    }
}

impl FromStr for AppName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = label("an app", text)?;
        if RESERVED_NAMES.contains(&name) {
            return Err(format!(
                "`{text}` cannot be an app's name: it is a reserved word; choose another"
            ));
        }
        Ok(Self(name.into()))
    }
}

/// The name of a shard: as an app's, but no word is reserved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ShardName(Arc<str>);

impl FromStr for ShardName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        label("a shard", text).map(|name| Self(name.into()))
    }
}

/// The name of a host: as a shard's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct HostName(Arc<str>);

impl HostName {
    /// The machine that Weir runs on.
    pub fn local() -> Self {
        static LOCAL: LazyLock<HostName> = LazyLock::new(|| HostName("local".into()));
        LOCAL.clone()
    }

    pub fn is_local(&self) -> bool {
        *self == Self::local()
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        label("a host", text).map(|name| Self(name.into()))
    }
}

/// The name of a notifier: as a shard's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NotifierName(Arc<str>);

impl FromStr for NotifierName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        label("a notifier", text).map(|name| Self(name.into()))
    }
}

/// The name of a failover policy: as a shard's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FailoverName(Arc<str>);

impl FromStr for FailoverName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        label("a failover policy", text).map(|name| Self(name.into()))
    }
}

/// The name of a provider: as a shard's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ProviderName(Arc<str>);

impl FromStr for ProviderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        label("a provider", text).map(|name| Self(name.into()))
    }
}

/// The name of one of its targets: as a shard's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TargetName(Arc<str>);

impl FromStr for TargetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        label("a target", text).map(|name| Self(name.into()))
    }
}

/// The name of an issuer of certificates: as a shard's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct IssuerName(Arc<str>);

impl FromStr for IssuerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        label("an issuer", text).map(|name| Self(name.into()))
    }
}

/// A DNS label without `--` that starts with a letter, at most 40 bytes.
fn label<'a>(of: &str, text: &'a str) -> Result<&'a str, String> {
    let refuse = |why: &str| Err(format!("`{text}` cannot be {of}'s name: {why}"));
    if text.is_empty() {
        return Err(format!("{of} needs a name"));
    }
    if text.len() > MAX_LABEL {
        return refuse("it is longer than 40 characters");
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return refuse(&format!(
            "uppercase letters are not allowed; did you mean `{}`?",
            text.to_ascii_lowercase()
        ));
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return refuse("only a-z, 0-9 and single hyphens are allowed");
    }
    if text.contains("--") {
        return refuse("`--` is kept for environments (`env--app`); use single hyphens");
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return refuse("it must start with a letter");
    }
    if text.ends_with('-') {
        return refuse("it must not end with a hyphen");
    }
    Ok(text)
}

/// The name of a member among its fellows: up to 64 letters, digits and `.:-_[]`, so that an
/// address is one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MemberName(Arc<str>);

impl FromStr for MemberName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b".:-_[]".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(is_allowed) {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "`{text}` cannot be a member's name: write 1 to 64 letters, digits or any of .:-_[]"
        ))
    }
}

/// The name of a secret, which is that of a variable in the app's environment: up to 128 letters,
/// digits and underscores, not beginning with a digit (POSIX.1-2024, XBD 8.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SecretName(Arc<str>);

impl FromStr for SecretName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let starts_well = text.starts_with(|c: char| !c.is_ascii_digit());
        if starts_well && text.len() <= 128 && text.bytes().all(is_allowed) {
            return Ok(Self(text.into()));
        }
        Err(format!(
            "`{text}` cannot be a secret's name: write 1 to 128 letters, digits and underscores, \
             as DATABASE_URL"
        ))
    }
}

/// The longest path that can be matched, in bytes.
const MAX_PATH: usize = 200;

/// A host name as it is matched: lowercase, no trailing dot, no port; its first label may be `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// The default host name of an app under the base domain.
    pub fn of_app(app: &AppName, base: &Self) -> Self {
        Self(format!("{app}.{base}").into())
    }

    /// `*.` in front of this name.
    pub fn wildcard(&self) -> Self {
        Self(format!("*.{self}").into())
    }

    /// Whether it is `above` or ends with it.
    pub fn is_at_or_below(&self, above: &Self) -> bool {
        let rest = self.0.strip_suffix(&*above.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// Of a wildcard, the name that it is below.
    pub fn above_wildcard(&self) -> Option<Self> {
        Some(Self(self.0.strip_prefix("*.")?.into()))
    }
}

impl FromStr for Hostname {
    type Err = String;

    /// Rules of RFC 1123 section 2.1 and RFC 1035 section 2.3.4; upper case is folded.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("`{text}` is not a host name: {why}"));
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.len() > 253 {
            return refuse("it is longer than 253 characters");
        }
        for label in name.strip_prefix("*.").unwrap_or(&name).split('.') {
            let edges_ok = !label.starts_with('-') && !label.ends_with('-');
            let bytes_ok =
                label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if label.is_empty() || label.len() > 63 || !edges_ok || !bytes_ok {
                return refuse(
                    "each part between dots is 1 to 63 letters, digits or inner hyphens, and only \
                     the first may be `*`",
                );
            }
        }
        Ok(Self(name.into()))
    }
}

/// Which requests: all to a host name, or those to it that are below a path. Written
/// `www.example.com` or `www.example.com/shop`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPath {
    pub host: Hostname,
    /// Starts with `/` and does not end with one; empty for all paths.
    path: Arc<str>,
}

impl HostPath {
    /// Starts with `/` and does not end with one; empty for all paths.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl From<Hostname> for HostPath {
    fn from(host: Hostname) -> Self {
        Self { host, path: "".into() }
    }
}

impl FromStr for HostPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let path = path.trim_end_matches('/');
        let is_plain = |b: u8| b.is_ascii_graphic() && !b"?#%\\".contains(&b);
        let mut segments = path.split('/').skip(1);
        if path.len() > MAX_PATH
            || !path.bytes().all(is_plain)
            || segments.any(|segment| matches!(segment, "" | "." | ".."))
        {
            return Err(format!(
                "`{path}` is not a path to match; write segments of plain letters, as /shop/api"
            ));
        }
        Ok(Self { host: host.parse()?, path: path.into() })
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path)
    }
}

impl Serialize for HostPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}
text_newtype!(AppName);
text_newtype!(HostName);
text_newtype!(Hostname);
text_newtype!(IssuerName);
text_newtype!(MemberName);
text_newtype!(SecretName);
text_newtype!(FailoverName);
text_newtype!(NotifierName);
text_newtype!(ProviderName);
text_newtype!(ShardName);
text_newtype!(TargetName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names() {
        for good in ["a", "shop", "shop-2", "a1"] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "needs a name"),
            ("Shop", "did you mean `shop`"),
            ("a--b", "kept for environments"),
            ("1shop", "start with a letter"),
            ("shop-", "end with a hyphen"),
            ("sh_op", "only a-z"),
            ("admin", "reserved"),
            (&"x".repeat(41), "longer than 40"),
        ] {
            let error = bad.parse::<AppName>().unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_secret_is_named_as_a_variable_is() {
        for good in ["DATABASE_URL", "_x", "a1", &"A".repeat(128)] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in ["", "1A", "A-B", "A=B", "A B", "Ä", &"A".repeat(129)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_name_may_have_a_path() {
        let shop: HostPath = "WWW.example.com/Shop/".parse().unwrap();
        assert_eq!(shop.to_string(), "www.example.com/Shop");
        assert_eq!("a.com/".parse::<HostPath>().unwrap().path(), "");
        for bad in ["/shop", "a.com//x", "a.com/../x", "a.com/x?y", "a.com/%2e"] {
            assert!(bad.parse::<HostPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_names_are_folded_and_checked() {
        assert_eq!(&*"Shop.Example.COM.".parse::<Hostname>().unwrap(), "shop.example.com");
        assert_eq!(&*"*.example.com".parse::<Hostname>().unwrap(), "*.example.com");
        for bad in ["", ".", "a..b", "-a.com", "a.*.com", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }
}
