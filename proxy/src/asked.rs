//! What a request brings to the decision where it goes.

use std::net::IpAddr;

use http::header;
use pingora::http::RequestHeader;
use weir_config::HashKey;

use crate::host::authority_of;

/// Apart from the session, which is busy while the request is held.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) host: &'a str,
    pub(crate) header: &'a RequestHeader,
    pub(crate) client: Option<IpAddr>,
}

impl Asked<'_> {
    pub(crate) fn path(&self) -> &str {
        self.header.uri.path()
    }

    /// The port that the client has written behind the host.
    pub(crate) fn port(&self) -> Option<u16> {
        authority_of(self.header)?.rsplit_once(':')?.1.parse().ok()
    }

    /// The URL of the same at another host. A scheme's own port is not written.
    pub(crate) fn at(&self, host: &str, https: bool, port: Option<u16>) -> String {
        let path = self.header.uri.path_and_query().map_or("/", |path| path.as_str());
        // As of `OPTIONS *`.
        let path = if path.starts_with('/') { path } else { "/" };
        let (scheme, usual) = if https { ("https", 443) } else { ("http", 80) };
        match port.filter(|port| *port != usual) {
            None => format!("{scheme}://{host}{path}"),
            Some(port) => format!("{scheme}://{host}:{port}{path}"),
        }
    }

    /// As far as it says so.
    pub(crate) fn body_length(&self) -> Option<u64> {
        self.header.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The hash of what is hashed of it; `None` if it has no such thing.
    pub(crate) fn key(&self, hashed: &HashKey) -> Option<u64> {
        Some(match hashed {
            HashKey::Host => HashKey::hash(self.host),
            HashKey::Path => HashKey::hash(self.path()),
            HashKey::Ip => match self.client? {
                IpAddr::V4(address) => HashKey::hash(address.octets()),
                IpAddr::V6(address) => HashKey::hash(address.octets()),
            },
            HashKey::Cookie(name) => HashKey::hash(self.cookie(name)?),
            HashKey::Header(name) => HashKey::hash(self.header.headers.get(&**name)?),
        })
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        let cookies = self.header.headers.get_all(header::COOKIE).iter();
        let pairs = cookies.filter_map(|cookies| cookies.to_str().ok());
        let mut pairs = pairs.flat_map(|pairs| pairs.split(';')).map(str::trim);
        pairs.find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, v)| v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_in_any_of_several_headers() {
        let mut header = RequestHeader::build("GET", b"/a?b", None).unwrap();
        header.append_header("cookie", "a=1; session=x=y").unwrap();
        header.append_header("cookie", "user=me").unwrap();
        header.append_header("content-length", "17").unwrap();
        let asked = Asked { host: "h", header: &header, client: None };
        for (name, value) in
            [("a", Some("1")), ("session", Some("x=y")), ("user", Some("me")), ("use", None)]
        {
            assert_eq!(asked.cookie(name), value, "{name}");
        }
        assert_eq!((asked.path(), asked.body_length()), ("/a", Some(17)));
        assert_eq!(asked.at("b", true, Some(443)), "https://b/a?b");
        assert_eq!(asked.at("b", false, Some(8080)), "http://b:8080/a?b");
        assert_eq!(asked.key(&HashKey::Path), Some(HashKey::hash("/a")));
        assert_eq!(asked.key(&HashKey::Ip), None);
        assert_eq!(
            asked.key(&HashKey::Header("cookie".into())),
            Some(HashKey::hash("a=1; session=x=y"))
        );
    }
}
