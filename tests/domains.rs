//! Domains of apps: what their owners have to write, and what becomes of them then.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};
use support::{
    BASE, Weir,
    issued::{certificate, client, dns_of, put_issuer, spec, url, valid},
    pebble::{A, CNAME, HERE, Pebble, TXT, name_server, text, texts_at, wire},
    unique,
    upstream::Upstream,
    wait_for,
};

const ISSUED: &str = "Issued certificate serial";

#[tokio::test]
async fn a_domain_says_which_records_it_needs_and_becomes_ready_by_itself() {
    let (is_written, suffix) = (Arc::new(AtomicBool::new(false)), format!(".{BASE}"));
    let dns = name_server({
        let is_written = is_written.clone();
        move |name, rtype| {
            let is_here = name.ends_with(&suffix) || is_written.load(Relaxed);
            if rtype == A && is_here { vec![HERE.to_vec()] } else { Vec::new() }
        }
    });
    let weir = Weir::start_with(&["--resolver", &dns.to_string()]).await;
    let pebble = Pebble::start(&weir, dns, &[]).await;
    put_issuer(&weir, "pebble", pebble.issuer("pebble")).await;
    let upstream = Upstream::start().await;
    let (app, host) = (unique("shop"), format!("{}.example.test", unique("www")));
    weir.put_ready(&app, spec(&host, &upstream)).await;
    let checked = weir.cli(&["domain", "check", &host, "-o", "json"]);
    assert_eq!(checked.status.code(), Some(3), "{checked:?}");
    let shown: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(shown["state"], "missing", "{shown:#}");
    let groups = [
        json!([format!("{host}. CNAME {app}.{BASE}.")]),
        json!([format!("{host}. A 127.0.0.1")]),
        json!([format!("{host}. ALIAS {app}.{BASE}.")]),
    ];
    assert_eq!(shown["needed"], json!(groups));
    // What is below the base domain needs nothing.
    let (_, all) = weir.api("GET", "/v1/domains", None).await;
    assert_eq!(all["items"].as_array().unwrap().len(), 1, "{all:#}");
    let (status, _) = weir.api("GET", &format!("/v1/domains/{app}.{BASE}"), None).await;
    assert_eq!(status, 404);
    wait_for("a try in vain", async || {
        (certificate(&weir, &host).await["state"] == "failed").then_some(())
    })
    .await;

    is_written.store(true, Relaxed);
    wait_for("the domain", async || {
        let (_, shown) = weir.api("GET", &format!("/v1/domains/{host}"), None).await;
        (shown["state"] == "ready" && shown["seen"] == json!([format!("{host}. A 127.0.0.1")]))
            .then_some(())
    })
    .await;
    valid(&weir, &host).await;
}

#[tokio::test]
async fn a_wildcard_of_a_domain_elsewhere_is_proven_where_its_owner_leads_authorities() {
    let (domain, shared) = (format!("{}.test", unique("example")), Arc::new(Mutex::new(None)));
    let dns = name_server({
        let (challenge, shared) = (format!("_acme-challenge.{domain}"), shared.clone());
        let target = format!("{domain}._acme-challenge.{BASE}");
        move |name, rtype| match (rtype, *shared.lock().unwrap()) {
            (A, _) => vec![HERE.to_vec()],
            (CNAME, Some(_)) if name == challenge => vec![wire(&target)],
            (TXT, Some(weir)) if name == challenge => texts_at(weir, &target),
            _ => Vec::new(),
        }
    });
    let weir = Weir::start_with(&["--dns", "127.0.0.1:0", "--resolver", &dns.to_string()]).await;
    let pebble = Pebble::start(&weir, dns, &[]).await;
    let zone = json!({"kind": "Zone", "name": BASE, "spec": {"addresses": ["127.0.0.1"]}});
    weir.api("PUT", &format!("/v1/zones/{BASE}"), Some(zone)).await;
    let (app, host) = (unique("shop"), format!("*.{domain}"));
    weir.put_ready(&app, spec(&host, &Upstream::start().await)).await;
    put_issuer(&weir, "pebble", pebble.issuer("pebble")).await;
    let record = format!("_acme-challenge.{domain}. CNAME {domain}._acme-challenge.{BASE}.");
    let shown = wait_for("what is missing", async || {
        let (_, shown) = weir.api("POST", &format!("/v1/domains/{host}/actions/check"), None).await;
        (!shown["needed"].as_array()?.is_empty()).then_some(shown)
    })
    .await;
    assert_eq!(shown["needed"], json!([[record]]), "{shown:#}");
    let failed = wait_for("a try in vain", async || {
        let shown = certificate(&weir, &host).await;
        (shown["state"] == "failed").then_some(shown)
    })
    .await;
    assert!(failed["last_error"].as_str().unwrap().contains(&record), "{failed:#}");

    *shared.lock().unwrap() = Some(dns_of(&weir));
    // The base domain's own cannot be proven: nobody asks Weir for it.
    assert_eq!(pebble.count(ISSUED), 0, "{}", pebble.log());
    let (_, shown) = weir.api("POST", &format!("/v1/domains/{host}/actions/check"), None).await;
    assert_eq!(shown["state"], "ready", "{shown:#}");
    assert_eq!(valid(&weir, &host).await["names"], json!([host]));
    let (root, any) = (pebble.root().await, format!("any.{domain}"));
    let answer = client(&weir, &root, &any).get(url(&weir, &any)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_domain_is_served_once_its_owner_has_said_so() {
    let said = Arc::new(Mutex::new(None::<String>));
    let dns = name_server({
        let said = said.clone();
        move |name, rtype| match (rtype, &*said.lock().unwrap()) {
            (A, _) => vec![HERE.to_vec()],
            (TXT, Some(said)) if name.starts_with("_weir-challenge.") => vec![text(said)],
            _ => Vec::new(),
        }
    });
    let resolver = dns.to_string();
    let arguments = ["--verify-domains", "true", "--resolver", &resolver];
    let mut weir = Weir::start_with(&arguments).await;
    let (app, host) = (unique("shop"), format!("{}.example.test", unique("www")));
    let mut spec = spec(&host, &Upstream::start().await);
    spec["http"] = json!("serve");
    weir.put_ready(&app, spec).await;
    let check = async |weir: &Weir| {
        weir.api("POST", &format!("/v1/domains/{host}/actions/check"), None).await.1
    };
    let shown = check(&weir).await;
    assert_eq!(shown["state"], "missing", "{shown:#}");
    let record = shown["needed"][0][0].as_str().unwrap();
    let value = record.strip_prefix(&format!("_weir-challenge.{host}. TXT \"")).unwrap();
    let value = value.strip_suffix('"').unwrap().to_owned();
    // Without TLS, which it has no certificate for.
    let status = async |weir: &Weir| {
        let client = client(weir, &fs::read_to_string(weir.state.join("ca.pem")).unwrap(), &host);
        let asked = client.get(format!("http://{}/", weir.http)).header("Host", &host);
        asked.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(&weir).await, 308, "as every name that nobody has");
    assert_eq!(certificate(&weir, &host).await["status"], 404, "none is wanted");

    *said.lock().unwrap() = Some("weir-domain=of-another".to_owned());
    assert_eq!(check(&weir).await["state"], "missing");
    *said.lock().unwrap() = Some(value);
    assert_eq!(check(&weir).await["state"], "ready");
    wait_for("the domain", async || (status(&weir).await == 200).then_some(())).await;
    // It is said once.
    *said.lock().unwrap() = None;
    weir = weir.kill_and_restart().await;
    wait_for("the domain", async || (check(&weir).await["state"] == "ready").then_some(())).await;
    assert_eq!(status(&weir).await, 200);
}
