//! How the proxy treats connections of clients.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{Networks, Problem, Problems, Span};

/// The section `proxy` of the settings, as written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxySpec {
    pub proxy_protocol: Option<Vec<String>>,
    pub trusted_proxies: Option<Vec<String>>,
    pub max_connections: Option<usize>,
    pub max_connections_per_client: Option<usize>,
    pub max_requests_per_connection: Option<u32>,
    pub handshake_timeout: Option<Span>,
    pub header_timeout: Option<Span>,
    pub idle_timeout: Option<Span>,
    pub write_timeout: Option<Span>,
    pub lame_duck: Option<Span>,
    pub speculative_wake: Option<bool>,
}

/// The same, as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Connections from these begin with a PROXY header that names the client; from nobody else is
    /// one understood.
    pub proxy_protocol: Networks,
    /// What these say in `X-Forwarded-For`, `X-Forwarded-Proto` and `Forwarded` is believed.
    pub trusted_proxies: Networks,
    /// Connections open at once; more are closed as they come.
    pub max_connections: usize,
    /// The same for one client: an IPv4 address, or an IPv6 network of 64 bits.
    pub max_connections_per_client: usize,
    /// After so many requests, an HTTP/1.1 connection is closed.
    pub max_requests_per_connection: u32,
    /// For the PROXY header and the TLS handshake together.
    pub handshake_timeout: Duration,
    /// For a request's header to arrive, from its first byte to its last. A new connection has the
    /// same time to send it all. At most a minute.
    pub header_timeout: Duration,
    /// A connection without a request is closed after so long.
    pub idle_timeout: Duration,
    /// A client that takes nothing of its answer for so long is given up.
    pub write_timeout: Duration,
    /// At a stop, how long connections are still accepted while clients are told to go. Afterwards,
    /// a connection on which nothing has come for as long is closed.
    pub lame_duck: Duration,
    /// Whether the beginning of a handshake for an app's host name wakes it, a moment before the
    /// request does; rationed, since anyone may begin one.
    pub speculative_wake: bool,
}

impl ProxySettings {
    /// Where this machine itself reaches what listens at `listener`; `None` if a PROXY header is
    /// expected of it there.
    pub fn from_here(&self, listener: SocketAddr) -> Option<SocketAddr> {
        let ip = match listener.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        // It is reached from the address that it has.
        (!self.proxy_protocol.contain(ip)).then(|| SocketAddr::new(ip, listener.port()))
    }
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            proxy_protocol: Networks::default(),
            trusted_proxies: Networks::default(),
            max_connections: 20_000,
            max_connections_per_client: 2_000,
            max_requests_per_connection: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            lame_duck: Duration::from_secs(1),
            speculative_wake: true,
        }
    }
}

impl ProxySpec {
    /// This section, with `weaker` where it is silent.
    pub(crate) fn or(self, weaker: Self) -> Self {
        Self {
            proxy_protocol: self.proxy_protocol.or(weaker.proxy_protocol),
            trusted_proxies: self.trusted_proxies.or(weaker.trusted_proxies),
            max_connections: self.max_connections.or(weaker.max_connections),
            max_connections_per_client: self
                .max_connections_per_client
                .or(weaker.max_connections_per_client),
            max_requests_per_connection: self
                .max_requests_per_connection
                .or(weaker.max_requests_per_connection),
            handshake_timeout: self.handshake_timeout.or(weaker.handshake_timeout),
            header_timeout: self.header_timeout.or(weaker.header_timeout),
            idle_timeout: self.idle_timeout.or(weaker.idle_timeout),
            write_timeout: self.write_timeout.or(weaker.write_timeout),
            lame_duck: self.lame_duck.or(weaker.lame_duck),
            speculative_wake: self.speculative_wake.or(weaker.speculative_wake),
        }
    }

    /// Fills in the defaults; what cannot be used is a problem, and its default stands in.
    pub(crate) fn resolve(self, problems: &mut Problems) -> ProxySettings {
        let default = ProxySettings::default();
        let mut networks = |field: &str, written: Option<Vec<String>>| {
            Networks::parse(&written.unwrap_or_default()).unwrap_or_else(|bad| {
                for (place, text) in bad {
                    let message = format!(
                        "`{text}` is not a network; write ADDRESS/BITS, as 10.0.0.0/8, or one address"
                    );
                    let pointer = format!("/proxy/{field}/{place}");
                    problems.push(Problem::new(pointer, "bad_network", message));
                }
                Networks::default()
            })
        };
        let proxy_protocol = networks("proxy_protocol", self.proxy_protocol);
        let trusted_proxies = networks("trusted_proxies", self.trusted_proxies);
        let mut timeout = |field: &str, written: Option<Span>, default: Duration| {
            let value = written.map_or(default, |span| span.0);
            let max = if field == "header_timeout" { MAX_HEADER_TIMEOUT } else { MAX_TIMEOUT };
            if value < Duration::from_millis(1) || value > max {
                let message = format!("write a time from 1ms to {}", Span(max));
                problems.push(Problem::new(format!("/proxy/{field}"), "out_of_range", message));
            }
            value
        };
        let handshake_timeout =
            timeout("handshake_timeout", self.handshake_timeout, default.handshake_timeout);
        let header_timeout = timeout("header_timeout", self.header_timeout, default.header_timeout);
        let idle_timeout = timeout("idle_timeout", self.idle_timeout, default.idle_timeout);
        let write_timeout = timeout("write_timeout", self.write_timeout, default.write_timeout);
        let max_connections = self.max_connections.unwrap_or(default.max_connections);
        let max_connections_per_client =
            self.max_connections_per_client.unwrap_or(default.max_connections_per_client);
        let max_requests_per_connection =
            self.max_requests_per_connection.unwrap_or(default.max_requests_per_connection);
        for (field, value) in [
            ("max_connections", max_connections),
            ("max_connections_per_client", max_connections_per_client),
            ("max_requests_per_connection", max_requests_per_connection as usize),
        ] {
            if value == 0 {
                let message = "write 1 or more: with 0, nobody is served";
                problems.push(Problem::new(format!("/proxy/{field}"), "out_of_range", message));
            }
        }
        ProxySettings {
            proxy_protocol,
            trusted_proxies,
            max_connections,
            max_connections_per_client,
            max_requests_per_connection,
            handshake_timeout,
            header_timeout,
            idle_timeout,
            write_timeout,
            lame_duck: self.lame_duck.map_or(default.lame_duck, |span| span.0),
            speculative_wake: self.speculative_wake.unwrap_or(default.speculative_wake),
        }
    }
}

/// Pingora waits no longer for the first request of a connection, and takes no other word for it.
const MAX_HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// Longer is no limit any more, and a mistake.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
