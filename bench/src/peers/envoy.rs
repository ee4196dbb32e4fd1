//! Envoy: one virtual host with all names.

use std::{net::SocketAddr, process::Command};

use serde_json::{Value, json};

use super::{Addresses, Peer, version};
use crate::{
    process::Process,
    site::{CHANGING, NAMES, Site, host},
};

pub(super) fn start(site: &Site) -> anyhow::Result<Peer> {
    let addresses = Addresses::free()?;
    let file = site.write("envoy.json", &config(site, addresses).to_string())?;
    let mut command = Command::new("envoy");
    command
        .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"])
        .arg("--config-path")
        .arg(file);
    Ok(Peer {
        name: "envoy",
        version: version("envoy", "--version")?,
        names: "domains of a virtual host",
        addresses,
        roots: site.roots(),
        process: Process::measured(site.dir(), "envoy", &command)?,
        change: None,
    })
}

fn config(site: &Site, addresses: Addresses) -> Value {
    let tls = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": {"filename": site.certificate()},
                    "private_key": {"filename": site.key()},
                }],
            },
        },
    });
    let plain = listener("http", addresses.http);
    let mut secure = listener("https", addresses.https);
    secure["filter_chains"][0]["transport_socket"] = tls;
    // Beyond its default of 1,024 of each, requests are refused.
    let most = json!({
        "max_connections": 100_000,
        "max_pending_requests": 100_000,
        "max_requests": 100_000,
    });
    json!({
        "static_resources": {
            "listeners": [plain, secure],
            "clusters": [{
                "name": "backend",
                "type": "STATIC",
                "connect_timeout": "5s",
                "circuit_breakers": {"thresholds": [most]},
                "load_assignment": {
                    "cluster_name": "backend",
                    "endpoints": [{"lb_endpoints": [
                        {"endpoint": {"address": socket_address(site.backend(0))}},
                    ]}],
                },
            }],
        },
    })
}

fn listener(name: &str, address: SocketAddr) -> Value {
    let domains: Vec<String> = (0..NAMES).map(host).chain([CHANGING.to_owned()]).collect();
    json!({
        "name": name,
        "address": socket_address(address),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "upgrade_configs": [{"upgrade_type": "websocket"}],
                "strip_any_host_port": true,
                "route_config": {"virtual_hosts": [{
                    "name": "all",
                    "domains": domains,
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}}],
                }]},
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    },
                }],
            },
        }]}],
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}
