//! HAProxy: one map file of all names, changed through its runtime socket.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Command,
};

use anyhow::ensure;

use super::{Addresses, Peer, number, version};
use crate::{
    process::Process,
    site::{BACKENDS, CHANGING, NAMES, Site, host},
};

pub(super) fn start(site: &Site) -> anyhow::Result<Peer> {
    let addresses = Addresses::free()?;
    let mut map = format!("{CHANGING} backend0\n");
    for i in 0..NAMES {
        writeln!(map, "{} backend0", host(i))?;
    }
    site.write("haproxy.map", &map)?;
    let file = site.write("haproxy.cfg", &config(site, addresses)?)?;

    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    let socket = site.dir().join("haproxy.sock");
    let map = site.dir().join("haproxy.map");
    Ok(Peer {
        name: "haproxy",
        version: version("haproxy", "-v")?,
        names: "a map",
        addresses,
        roots: site.roots(),
        process: Process::measured(site.dir(), "haproxy", &command)?,
        change: Some(Box::new(move |_, to| {
            let mut stream = UnixStream::connect(&socket)?;
            let backend = number(to);
            writeln!(stream, "set map {} {CHANGING} backend{backend}", map.display())?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            ensure!(said.trim().is_empty(), "haproxy says: {said}");
            Ok(())
        })),
    })
}

fn config(site: &Site, addresses: Addresses) -> anyhow::Result<String> {
    let Addresses { http, https, .. } = addresses;
    let dir = site.dir().display();
    let mut backends = String::new();
    for n in 0..BACKENDS {
        writeln!(backends, "backend backend{n}\n    server one {} maxconn 20000", site.backend(n))?;
    }
    Ok(format!(
        "
global
    nbthread 1
    no strict-limits
    maxconn 12000
    stats socket {dir}/haproxy.sock level admin
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout client 600s
    timeout server 600s
    timeout tunnel 600s
    timeout connect 5s
    timeout http-keep-alive 600s
    timeout http-request 10s
frontend all
    bind {http} backlog 4096
    bind {https} backlog 4096 ssl crt {dir}/both.pem alpn h2,http/1.1
    use_backend %[req.hdr(host),field(1,:),lower,map({dir}/haproxy.map)]
{backends}"
    ))
}
