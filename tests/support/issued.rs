//! Certificates of an authority, as operators and clients see them.

use std::net::SocketAddr;

use reqwest::Certificate;
use serde_json::{Value, json};

use super::{Weir, upstream::Upstream, wait_for};

/// What an app of `host` is served by, without a container.
pub fn spec(host: &str, upstream: &Upstream) -> Value {
    json!({"upstreams": [upstream.address.to_string()], "hostnames": [host]})
}

pub async fn put_issuer(weir: &Weir, name: &str, issuer: Value) {
    let (status, said) = weir.api("PUT", &format!("/v1/issuers/{name}"), Some(issuer)).await;
    assert_eq!(status, 201, "{said:#}");
}

pub async fn certificate(weir: &Weir, host: &str) -> Value {
    weir.api("GET", &format!("/v1/certificates/{host}"), None).await.1
}

/// Waits until there is a valid one.
pub async fn valid(weir: &Weir, host: &str) -> Value {
    wait_for("the certificate", async || {
        let shown = certificate(weir, host).await;
        (shown["state"] == "valid" && shown["source"] == "acme").then_some(shown)
    })
    .await
}

/// A client that trusts this authority only.
pub fn client(weir: &Weir, root: &str, host: &str) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(root.as_bytes()).unwrap()])
        .resolve(host, weir.https)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .tls_info(true)
        .build()
        .unwrap()
}

pub fn url(weir: &Weir, host: &str) -> String {
    format!("https://{host}:{}/", weir.https.port())
}

/// Where its name server answers.
pub fn dns_of(weir: &Weir) -> SocketAddr {
    let log = weir.log();
    let line = log.lines().find(|line| line.contains("\"dns listens\"")).unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    event["address"].as_str().unwrap().parse().unwrap()
}
