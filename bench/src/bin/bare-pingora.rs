//! The least that Pingora can do: forwards every request to one backend. What Weir takes beyond it
//! is Weir's own.
//!
//! `bare-pingora BACKEND HTTP HTTPS CERTIFICATE KEY`

use std::{env, net::SocketAddr};

use anyhow::{Context, anyhow};
use async_trait::async_trait;
use pingora::{
    apps::HttpServerOptions,
    listeners::tls::TlsSettings,
    proxy::{ProxyHttp, ProxyServiceBuilder, Session},
    server::{Server, configuration::ServerConf},
    upstreams::peer::HttpPeer,
};

struct Bare {
    backend: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.backend, false, String::new())))
    }
}

fn main() -> anyhow::Result<()> {
    // Only the first of a process can be installed, and this is the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [backend, http, https, certificate, key] = &arguments[..] else {
        return Err(anyhow!("usage: bare-pingora BACKEND HTTP HTTPS CERTIFICATE KEY"));
    };
    let backend = backend.parse().context("BACKEND is not an address")?;

    // As many connections are kept for reuse as the load has; Pingora's own 128 are fewer.
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 4096, ..Default::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let mut service = ProxyServiceBuilder::new(&server.configuration, Bare { backend })
        .server_options(options)
        .build();
    service.add_tcp(http);
    let mut tls = TlsSettings::intermediate(certificate, key)?;
    tls.enable_h2();
    service.add_tls_with_settings(https, None, tls);
    server.add_service(service);
    server.run_forever()
}
