//! nginx: one `map` of all names, with every change a reload.

use std::{fmt::Write as _, fs, net::SocketAddr, process::Command};

use nix::sys::signal::Signal;

use super::{Addresses, Peer, number, version};
use crate::{
    process::Process,
    site::{BACKENDS, CHANGING, NAMES, Site, free_address, host},
};

pub(super) fn start(site: &Site) -> anyhow::Result<Peer> {
    // Version 1.22 cannot tell HTTP/2 from HTTP/1.1 on a port without TLS.
    let h2c = free_address()?;
    let addresses = Addresses { h2c: Some(h2c), ..Addresses::free()? };
    let mut names = String::new();
    for i in 0..NAMES {
        writeln!(names, "{} backend0;", host(i))?;
    }
    site.write("nginx.names", &names)?;
    site.write("nginx.changing", &format!("{CHANGING} backend0;\n"))?;
    let file = site.write("nginx.conf", &config(site, addresses, h2c)?)?;

    let mut command = Command::new("nginx");
    command.arg("-c").arg(file).arg("-p").arg(site.dir());
    let changing = site.dir().join("nginx.changing");
    Ok(Peer {
        name: "nginx",
        version: version("nginx", "-v")?,
        names: "a map",
        addresses,
        roots: site.roots(),
        process: Process::measured(site.dir(), "nginx", &command)?,
        change: Some(Box::new(move |process, to| {
            fs::write(&changing, format!("{CHANGING} backend{};\n", number(to)))?;
            process.signal(Signal::SIGHUP)
        })),
    })
}

fn config(site: &Site, addresses: Addresses, h2c: SocketAddr) -> anyhow::Result<String> {
    let Addresses { http, https, .. } = addresses;
    let dir = site.dir().display();
    let mut backends = String::new();
    for n in 0..BACKENDS {
        let backend = site.backend(n);
        // Kept connections end neither by count nor by age.
        writeln!(
            backends,
            "upstream backend{n} {{ server {backend}; keepalive 2048; \
             keepalive_requests 1000000000; keepalive_time 1d; }}"
        )?;
    }
    Ok(format!(
        r#"
user root;
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {dir}/nginx-body;
    proxy_temp_path {dir}/nginx-proxy;
    fastcgi_temp_path {dir}/nginx-fastcgi;
    uwsgi_temp_path {dir}/nginx-uwsgi;
    scgi_temp_path {dir}/nginx-scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    map_hash_max_size 262144;
    map_hash_bucket_size 128;
    map $host $backend {{
        include {dir}/nginx.names;
        include {dir}/nginx.changing;
    }}
    map $http_upgrade $to_backend {{ default upgrade; "" ""; }}
    {backends}
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:sessions:10m;
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $to_backend;
    # A body of 100 KB is not written to a disk.
    proxy_buffers 16 16k;
    proxy_max_temp_file_size 0;
    server {{
        listen {http} backlog=4096;
        listen {https} ssl http2 backlog=4096;
        listen {h2c} http2;
        if ($backend = "") {{ return 404; }}
        location / {{ proxy_pass http://$backend; }}
    }}
}}
"#,
        certificate = site.certificate().display(),
        key = site.key().display(),
    ))
}
