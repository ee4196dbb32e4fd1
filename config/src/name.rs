//! Names that keep promises: once parsed, they are valid, lowercase and cheap to share.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

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

/// The longest app name, in bytes: leaves room for `<environment>--` within a 63-byte DNS label.
const MAX_APP_NAME: usize = 40;

/// The name of an app: a DNS label without `--` (so that `env--app.base` parses), starting with a
/// letter, at most 40 bytes, and not in [`RESERVED_NAMES`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct AppName(Arc<str>);

impl FromStr for AppName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("`{text}` cannot be an app's name: {why}"));
        if text.is_empty() {
            return Err("an app needs a name".to_owned());
        }
        if text.len() > MAX_APP_NAME {
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
        if RESERVED_NAMES.contains(&text) {
            return refuse("it is a reserved word; choose another");
        }
        Ok(Self(text.into()))
    }
}

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
text_newtype!(Hostname);

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
    fn host_names_are_folded_and_checked() {
        assert_eq!(&*"Shop.Example.COM.".parse::<Hostname>().unwrap(), "shop.example.com");
        assert_eq!(&*"*.example.com".parse::<Hostname>().unwrap(), "*.example.com");
        for bad in ["", ".", "a..b", "-a.com", "a.*.com", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }
}
