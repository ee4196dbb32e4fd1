//! Traefik: one rule for all names, because it tries its rules in turn; changed through its file.

use std::{fs, net::SocketAddr, process::Command};

use serde_json::{Value, json};

use super::{Addresses, Peer, number, version};
use crate::{
    process::Process,
    site::{BACKENDS, CHANGING, DOMAIN, Site},
};

pub(super) fn start(site: &Site) -> anyhow::Result<Peer> {
    let addresses = Addresses::free()?;
    // Not `traefik.yaml`, which it would take for settings.
    let file = site.write("traefik-routes.yaml", &config(site, site.backend(0)).to_string())?;
    let mut command = Command::new("traefik");
    command
        .arg(format!("--entrypoints.http.address={}", addresses.http))
        .arg(format!("--entrypoints.https.address={}", addresses.https))
        .arg(format!("--providers.file.filename={}", file.display()))
        // Its default keeps fewer connections to a backend than the load has.
        .arg("--serverstransport.maxidleconnsperhost=2048")
        .args(["--entrypoints.http.transport.respondingtimeouts.idletimeout=600s"])
        .args(["--entrypoints.https.transport.respondingtimeouts.idletimeout=600s"])
        .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
        .args(["--log.level=ERROR"])
        .env("GOMAXPROCS", "1");
    let changed = |n| config(site, site.backend(n)).to_string();
    let changed: Vec<_> = (0..BACKENDS).map(changed).collect();
    Ok(Peer {
        name: "traefik",
        version: version("traefik", "version")?,
        names: "one pattern for all: it tries its rules in turn",
        addresses,
        roots: site.roots(),
        process: Process::measured(site.dir(), "traefik", &command)?,
        change: Some(Box::new(move |_, to| {
            Ok(fs::write(&file, &changed[usize::from(number(to))])?)
        })),
    })
}

/// JSON, which is YAML as well.
fn config(site: &Site, changing: SocketAddr) -> Value {
    let escaped = DOMAIN.replace('.', "\\.");
    let all = format!("HostRegexp(`^n-[0-9]+\\.{escaped}$`)");
    let one = format!("Host(`{CHANGING}`)");
    let plain =
        |rule: &str, service| json!({"rule": rule, "service": service, "entryPoints": ["http"]});
    let secure = |rule: &str, service| json!({"rule": rule, "service": service, "entryPoints": ["https"], "tls": {}});
    let service = |to: SocketAddr| {
        let url = format!("http://{to}");
        json!({"loadBalancer": {"servers": [{"url": url}]}})
    };
    let certificate = json!({"certFile": site.certificate(), "keyFile": site.key()});
    json!({
        "http": {
            "routers": {
                "all": plain(&all, "backend"),
                "all-tls": secure(&all, "backend"),
                "one": plain(&one, "changing"),
                "one-tls": secure(&one, "changing"),
            },
            "services": {"backend": service(site.backend(0)), "changing": service(changing)},
        },
        "tls": {
            "certificates": [certificate.clone()],
            "stores": {"default": {"defaultCertificate": certificate}},
        },
    })
}
