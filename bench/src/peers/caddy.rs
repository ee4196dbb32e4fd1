//! Caddy: one matcher with all names, changed through its admin API.

use std::{net::SocketAddr, process::Command};

use serde_json::{Value, json};

use super::{Addresses, Peer, call, version};
use crate::{
    process::Process,
    site::{CHANGING, DOMAIN, NAMES, Site, free_address, host},
};

pub(super) fn start(site: &Site) -> anyhow::Result<Peer> {
    let addresses = Addresses::free()?;
    let admin = free_address()?;
    let file = site.write("caddy.json", &config(site, addresses, admin).to_string())?;
    let mut command = Command::new("caddy");
    command
        .args(["run", "--config"])
        .arg(file)
        .env("GOMAXPROCS", "1")
        .env("HOME", site.dir())
        .env("XDG_CONFIG_HOME", site.dir())
        .env("XDG_DATA_HOME", site.dir());
    Ok(Peer {
        name: "caddy",
        version: version("caddy", "version")?,
        names: "a host matcher",
        addresses,
        roots: site.roots(),
        process: Process::measured(site.dir(), "caddy", &command)?,
        change: Some(Box::new(move |_, to| change(admin, to))),
    })
}

fn config(site: &Site, addresses: Addresses, admin: SocketAddr) -> Value {
    let names: Vec<String> = (0..NAMES).map(host).collect();
    let server = |address: SocketAddr, protocol: &str, changing: Value| {
        json!({
            "listen": [address],
            "protocols": ["h1", protocol],
            "automatic_https": {"disable": true},
            "idle_timeout": "600s",
            "routes": [
                {"match": [{"host": names}], "handle": [forward(site.backend(0))]},
                {"match": [{"host": [CHANGING]}], "handle": [changing]},
            ],
        })
    };
    // Of the two, only the one without TLS is changed, and so has a name.
    let mut changing = forward(site.backend(0));
    changing["@id"] = json!("changing");
    let plain = server(addresses.http, "h2c", changing);
    let mut secure = server(addresses.https, "h2", forward(site.backend(0)));
    // The certificate is also shown to a client that asks for another name.
    secure["tls_connection_policies"] = json!([{"default_sni": DOMAIN, "fallback_sni": DOMAIN}]);
    let certificate = json!({"certificate": site.certificate(), "key": site.key()});
    json!({
        "admin": {"listen": admin},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {
            "http": {"servers": {"plain": plain, "secure": secure}},
            "tls": {"certificates": {"load_files": [certificate]}},
        },
    })
}

fn forward(to: SocketAddr) -> Value {
    json!({
        "handler": "reverse_proxy",
        "upstreams": [{"dial": to}],
        // Its default keeps fewer connections to a backend than the load has.
        "transport": {"protocol": "http", "keep_alive": {"max_idle_conns_per_host": 2048}},
    })
}

fn change(admin: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
    let mut changing = forward(to);
    changing["@id"] = json!("changing");
    call(admin, "PATCH /id/changing", "", &changing)
}
