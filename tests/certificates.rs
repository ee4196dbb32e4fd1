//! Certificates by ACME, from a real Pebble, and those of one's own.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    BASE, Weir,
    faulty_ca::{Fault, FaultyCa},
    issued::{certificate, client, dns_of, put_issuer, spec, url, valid},
    pebble::{Pebble, every_name_is_here},
    unique,
    upstream::Upstream,
    wait_for,
};

/// The certificate that a client is shown.
async fn seen_at(weir: &Weir, root: &str, host: &str) -> Vec<u8> {
    let answer = client(weir, root, host).get(url(weir, host)).send().await.unwrap();
    let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    info.peer_certificate().unwrap().to_vec()
}

const ISSUED: &str = "Issued certificate serial";
const ORDERED: &str = "Added order";
/// Where Pebble takes orders.
const NEW_ORDER: &str = "/order-plz";

#[tokio::test]
async fn a_custom_domain_gets_a_certificate_renews_it_and_keeps_it_over_a_crash() {
    let mut weir = Weir::start().await;
    let pebble = Pebble::start(&weir, every_name_is_here(), &[]).await;
    let upstream = Upstream::start().await;
    let (app, host) = (unique("shop"), format!("{}.example.test", unique("www")));
    weir.put_ready(&app, spec(&host, &upstream)).await;
    assert_eq!(certificate(&weir, &host).await["state"], "pending");

    put_issuer(&weir, "pebble", pebble.issuer("pebble")).await;
    let shown = valid(&weir, &host).await;
    assert_eq!((&shown["issuer"], &shown["proof"]), (&json!("pebble"), &json!("http-01")));
    let root = pebble.root().await;
    let answer = client(&weir, &root, &host).get(url(&weir, &host)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    // What nobody has asked for is not ordered.
    let stranger = client(&weir, &root, "stranger.test");
    stranger.get(url(&weir, "stranger.test")).send().await.unwrap_err();
    assert_eq!((pebble.count(ORDERED), pebble.count(ISSUED)), (1, 1), "{}", pebble.log());

    // A renewal fails no handshake.
    let former = seen_at(&weir, &root, &host).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let handshakes = Arc::new(AtomicUsize::new(0));
    let clients = tokio::spawn({
        let (client, url) = (client(&weir, &root, &host), url(&weir, &host));
        let (is_over, handshakes) = (is_over.clone(), handshakes.clone());
        async move {
            while !is_over.load(Relaxed) {
                client.get(&url).send().await.unwrap();
                handshakes.fetch_add(1, Relaxed);
            }
        }
    });
    let renewed = weir.cli(&["cert", "renew", &host]);
    assert!(renewed.status.success(), "{renewed:?}");
    wait_for("the renewal", async || (pebble.count(ISSUED) == 2).then_some(())).await;
    let seen = handshakes.load(Relaxed);
    wait_for("handshakes after it", async || (handshakes.load(Relaxed) > seen + 20).then_some(()))
        .await;
    is_over.store(true, Relaxed);
    clients.await.unwrap();
    wait_for("the new one", async || (seen_at(&weir, &root, &host).await != former).then_some(()))
        .await;

    let (_, audit) = weir.api("GET", "/v1/audit", None).await;
    let rows = audit["items"].as_array().unwrap();
    let rows = rows
        .iter()
        .filter(|row| ["Issuer", "Certificate"].map(Some).contains(&row["kind"].as_str()));
    let rows: Vec<_> = rows.map(|row| [&row["verb"], &row["name"], &row["actor"]]).collect();
    let expected = [
        [&json!("issue"), &json!(host), &json!("weir")],
        [&json!("renew"), &json!(host), &json!("admin")],
        [&json!("issue"), &json!(host), &json!("weir")],
        [&json!("put"), &json!("pebble"), &json!("admin")],
    ];
    assert_eq!(rows, expected, "{audit:#}");

    // What is on disk is of no use to a thief of the database.
    for file in fs::read_dir(weir.state.join("certificates")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(text.contains("BEGIN CERTIFICATE") && !text.contains("PRIVATE KEY"));
    }
    // It is shown from the first handshake, and nobody is asked again.
    drop(pebble);
    weir = weir.kill_and_restart().await;
    let answer = client(&weir, &root, &host).get(url(&weir, &host)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(valid(&weir, &host).await["failures"], 0);
}

#[tokio::test]
async fn nonces_that_are_refused_cost_nothing_but_time() {
    let weir = Weir::start().await;
    let settings = [("PEBBLE_WFE_NONCEREJECT", "40")];
    let pebble = Pebble::start(&weir, every_name_is_here(), &settings).await;
    let upstream = Upstream::start().await;
    put_issuer(&weir, "pebble", pebble.issuer("pebble")).await;
    let hosts: Vec<_> = (0..5).map(|_| format!("{}.example.test", unique("www"))).collect();
    for host in &hosts {
        weir.put(&unique("shop"), spec(host, &upstream)).await;
    }
    for host in &hosts {
        assert_eq!(valid(&weir, host).await["failures"], 0, "{}", weir.log());
    }
    assert_eq!((pebble.count(ORDERED), pebble.count(ISSUED)), (5, 5), "{}", pebble.log());
}

#[tokio::test]
async fn an_authority_that_has_forgotten_us_is_told_of_us_again() {
    let weir = Weir::start().await;
    let mut pebble = Pebble::start(&weir, every_name_is_here(), &[]).await;
    let (upstream, host) = (Upstream::start().await, format!("{}.example.test", unique("www")));
    weir.put_ready(&unique("shop"), spec(&host, &upstream)).await;
    put_issuer(&weir, "pebble", pebble.issuer("pebble")).await;
    valid(&weir, &host).await;
    pebble.restart().await;
    let (root, count) = (pebble.root().await, pebble.count(ISSUED));
    assert_eq!(count, 0, "{}", pebble.log());
    assert!(weir.cli(&["cert", "renew", &host]).status.success());
    wait_for("the renewal", async || {
        client(&weir, &root, &host).get(url(&weir, &host)).send().await.ok()
    })
    .await;
    let shown = certificate(&weir, &host).await;
    assert_eq!((&shown["state"], &shown["failures"]), (&json!("valid"), &json!(0)), "{shown:#}");
}

/// Dies at one moment of an order, and is started again.
async fn crash_at(point: &str) {
    let mut weir = Weir::start_set_up(|command, _| {
        command.env("FAILPOINT", format!("{point}:1"));
    })
    .await;
    let upstream = Upstream::start().await;
    let (app, host) = (unique("shop"), format!("{}.example.test", unique("www")));
    weir.put(&app, spec(&host, &upstream)).await;
    let pebble = Pebble::start(&weir, every_name_is_here(), &[]).await;
    put_issuer(&weir, "pebble", pebble.issuer("pebble")).await;
    weir.end().await;
    let port = weir.http.port().to_string();
    // Where Pebble asks.
    let mut weir = Weir::restart_with(weir, &["--http", &format!("127.0.0.1:{port}")]).await;
    let mut is_hurried = false;
    wait_for("the certificate", async || {
        let shown = certificate(&weir, &host).await;
        // The authority may have looked while nobody answered; an operator need not wait.
        if shown["state"] == "failed" && !is_hurried {
            is_hurried = weir.cli(&["cert", "renew", &host]).status.success();
        }
        (shown["state"] == "valid").then_some(())
    })
    .await;
    let root = pebble.root().await;
    let answer = client(&weir, &root, &host).get(url(&weir, &host)).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{point}");
    assert_eq!(pebble.count(ISSUED), 1, "{point}: {}", pebble.log());
    // Only what the authority had not told us of yet cannot be taken up again, nor what it has
    // found wrong by then.
    let most = if ["after-order", "after-ready"].contains(&point) { 2 } else { 1 };
    assert!((1..=most).contains(&pebble.count(ORDERED)), "{point}: {}", pebble.log());
    assert_eq!(pebble.count("There are now 1 accounts"), 1, "{point}: {}", pebble.log());
    weir.kill();
}

#[tokio::test]
async fn killed_between_any_two_steps_it_ends_with_one_certificate() {
    for point in [
        "after-account",
        "after-order",
        "after-challenge",
        "after-ready",
        "before-finalize",
        "after-finalize",
        "after-certificate",
    ] {
        println!("{point}");
        tokio::time::timeout(Duration::from_secs(120), crash_at(point)).await.unwrap();
    }
}

/// Seconds from now to a time that was told.
fn seconds_until(told: &Value) -> i64 {
    let at: jiff::Timestamp = told.as_str().unwrap().parse().unwrap();
    at.as_second() - jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn what_an_authority_asks_for_when_it_fails_is_kept_to() {
    let weir = Weir::start().await;
    let pebble = Pebble::start(&weir, every_name_is_here(), &[]).await;
    let upstream = Upstream::start().await;
    let limited = Fault::problem(NEW_ORDER, 429, "rateLimited", "too many of these");
    let page = "<html><head><title>Down</title></head><body>for <i>maintenance</i></body></html>";
    for (fault, wait, said) in [
        (limited.header("Retry-After", "7200"), 7200, "too many of these"),
        (
            Fault::page(NEW_ORDER, 503, page).header("Retry-After", "3600"),
            3600,
            "Down for maintenance",
        ),
        (Fault::page(NEW_ORDER, 502, "<h1>Bad Gateway</h1>"), 60, "502 Bad Gateway"),
        (Fault::page("/dir", 500, ""), 60, "500 Internal Server Error"),
        (Fault::problem(NEW_ORDER, 403, "rejectedIdentifier", "not for us"), 60, "not for us"),
    ] {
        let ca = FaultyCa::before(&pebble).await;
        let is_limited = fault.status == 429;
        ca.fail(fault);
        put_issuer(&weir, "faulty", ca.issuer("faulty")).await;
        let host = format!("{}.example.test", unique("www"));
        weir.put(&unique("shop"), spec(&host, &upstream)).await;
        let shown = wait_for("the failure", async || {
            let shown = certificate(&weir, &host).await;
            (shown["state"] == "failed").then_some(shown)
        })
        .await;
        let told = shown["last_error"].as_str().unwrap();
        assert!(told.contains(said), "{told}");
        let until = seconds_until(&shown["retry_at"]);
        assert!((wait - 10..=wait).contains(&until), "{said}: {until}");
        // Nobody is asked before.
        assert!(ca.asked(NEW_ORDER) <= 1, "{said}");
        if is_limited {
            let subject = format!("Certificate/{host}");
            wait_for("the incident", async || {
                let path = format!("/v1/incidents?state=open&subject={subject}");
                let (_, found) = weir.api("GET", &path, None).await;
                (found["items"][0]["rule"] == "certificate-limited").then_some(())
            })
            .await;
        }
        // An operator need not wait.
        assert!(weir.cli(&["cert", "renew", &host]).status.success());
        assert_eq!(valid(&weir, &host).await["failures"], 0);
        let (status, _) = weir.api("DELETE", "/v1/issuers/faulty", None).await;
        assert_eq!(status, 202);
    }
}

#[tokio::test]
async fn the_second_authority_is_asked_when_the_first_one_fails() {
    let weir = Weir::start().await;
    let pebble = Pebble::start(&weir, every_name_is_here(), &[]).await;
    let upstream = Upstream::start().await;
    let ca = FaultyCa::before(&pebble).await;
    ca.fail(Fault::page(NEW_ORDER, 503, "down").times(100));
    put_issuer(&weir, "first", ca.issuer("first")).await;
    let mut second = pebble.issuer("second");
    second["spec"]["rank"] = json!(1);
    put_issuer(&weir, "second", second).await;
    let host = format!("{}.example.test", unique("www"));
    weir.put(&unique("shop"), spec(&host, &upstream)).await;
    assert_eq!(valid(&weir, &host).await["issuer"], "second");
    assert_eq!(ca.asked(NEW_ORDER), 1);
}

#[tokio::test]
async fn an_authority_that_is_slow_is_waited_for_and_its_window_is_kept_to() {
    let weir = Weir::start().await;
    let pebble = Pebble::start(&weir, every_name_is_here(), &[]).await;
    let upstream = Upstream::start().await;
    let ca = FaultyCa::before(&pebble).await;
    let now = jiff::Timestamp::now();
    let hours = |n: i64| now + jiff::SignedDuration::from_hours(n);
    let window = |from: i64, to: i64| json!({"start": hours(from).to_string(), "end": hours(to).to_string()});
    *ca.window.lock().unwrap() = Some(window(240, 264));
    put_issuer(&weir, "slow", ca.issuer("slow")).await;
    let slow = json!({"status": "processing", "identifiers": [], "authorizations": [],
        "finalize": "https://127.0.0.1:1/"});
    let mut slow = Fault::page("/my-order/", 200, &slow.to_string()).times(4);
    slow.content_type = "application/json";
    ca.fail(slow);
    let host = format!("{}.example.test", unique("www"));
    weir.put(&unique("shop"), spec(&host, &upstream)).await;
    let shown = valid(&weir, &host).await;
    assert_eq!(shown["failures"], 0);
    let renewed = seconds_until(&shown["renew_at"]) / 3600;
    assert!((239..=264).contains(&renewed), "{renewed}");
    assert!(ca.asked("/my-order/") > 4);

    // In an emergency it is replaced at once, and the next one is not.
    *ca.window.lock().unwrap() = Some(window(-48, -24));
    let renewed = wait_for("the replacement", async || {
        let renewed = seconds_until(&certificate(&weir, &host).await["renew_at"]);
        (pebble.count(ISSUED) == 2 && renewed > 0).then_some(renewed)
    })
    .await;
    assert!((3000..=3600).contains(&renewed), "{renewed}");
}

#[tokio::test]
async fn a_certificate_of_one_s_own_is_checked_and_shown_until_it_is_deleted() {
    let weir = Weir::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    let host = format!("{}.example.test", unique("own"));
    let own_key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new([host.clone()]).unwrap().self_signed(&own_key).unwrap();
    fs::write(&chain, own.pem()).unwrap();
    fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let upload = || {
        let files = [chain.display().to_string(), key.display().to_string()];
        weir.cli(&["cert", "upload", "--chain", &files[0], "--key", &files[1]])
    };
    let refused = upload();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("key"), "{refused:?}");

    fs::write(&key, own_key.serialize_pem()).unwrap();
    let taken = upload();
    assert!(taken.status.success(), "{taken:?}");
    let upstream = Upstream::start().await;
    weir.put_ready(&unique("shop"), spec(&host, &upstream)).await;
    assert_eq!(seen_at(&weir, &own.pem(), &host).await, own.der().to_vec());
    // Weir's own is shown where there is no other, and cannot be deleted.
    assert!(weir.cli(&["cert", "delete", &host]).status.success());
    wait_for("it to be shown no more", async || {
        let shown = client(&weir, &own.pem(), &host).get(url(&weir, &host)).send().await;
        shown.is_err().then_some(())
    })
    .await;
    assert_eq!(weir.cli(&["cert", "delete", BASE]).status.code(), Some(2));
}

#[tokio::test]
async fn over_tls_a_domain_and_the_name_that_leads_to_it_are_proven() {
    let weir = Weir::start().await;
    let pebble = Pebble::start(&weir, every_name_is_here(), &[]).await;
    let mut issuer = pebble.issuer("pebble");
    issuer["spec"]["challenge"] = json!("tls-alpn-01");
    put_issuer(&weir, "pebble", issuer).await;
    let (upstream, apex) = (Upstream::start().await, format!("{}.test", unique("example")));
    let host = format!("www.{apex}");
    let mut spec = spec(&host, &upstream);
    spec["redirects"] = json!({ apex.clone(): host });
    weir.put_ready(&unique("shop"), spec).await;
    for name in [&host, &apex] {
        assert_eq!(valid(&weir, name).await["proof"], "tls-alpn-01");
    }
    let root = pebble.root().await;
    let asked = client(&weir, &root, &apex).get(format!("{}a?b=c", url(&weir, &apex)));
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.headers()["location"], *format!("{}a?b=c", url(&weir, &host)));
    let answer = client(&weir, &root, &host).get(url(&weir, &host)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn an_issuer_is_applied_as_any_other_object() {
    let weir = Weir::start().await;
    let file = weir.dir.path().join("issuer.yaml");
    let text = "{kind: Issuer, name: le, spec: {directory: 'https://ca.test/dir', \
                terms_agreed: true, eab: {key_id: '1', key: aHVudGVyMg}}}";
    fs::write(&file, text).unwrap();
    let apply = || {
        let applied = weir.cli(&["apply", "-f", file.to_str().unwrap()]);
        assert!(applied.status.success(), "{applied:?}");
        String::from_utf8(applied.stdout).unwrap()
    };
    assert!(apply().contains("+ Issuer/le  create  orders from https://ca.test/dir"));
    assert!(apply().contains("= Issuer/le  unchanged"));
    fs::write(&file, text.replace("aHVudGVyMg", "aHVudGVyMw")).unwrap();
    assert!(apply().contains("~ Issuer/le  eab.key changed"));
    // Written without its key, it keeps the one it has.
    fs::write(&file, text.replace(", key: aHVudGVyMg", "").replace("/dir", "/other")).unwrap();
    let told = apply();
    assert!(
        told.contains("~ Issuer/le  directory https://ca.test/dir → https://ca.test/other"),
        "{told}"
    );
    let (_, shown) = weir.api("GET", "/v1/issuers/le", None).await;
    assert_eq!(shown["spec"]["eab"], json!({"key_id": "1"}), "{shown:#}");
}

#[tokio::test]
async fn with_a_zone_of_ours_a_wildcard_covers_every_app_and_only_our_account_may_issue() {
    let weir = Weir::start_with(&["--dns", "127.0.0.1:0"]).await;
    let dns = dns_of(&weir);
    let pebble = Pebble::start(&weir, dns, &[]).await;
    let zone = json!({"kind": "Zone", "name": BASE, "spec": {"addresses": ["127.0.0.1"]}});
    let (status, said) = weir.api("PUT", &format!("/v1/zones/{BASE}"), Some(zone)).await;
    assert_eq!(status, 201, "{said:#}");
    let mut issuer = pebble.issuer("pebble");
    issuer["spec"]["caa"] = json!("pebble.letsencrypt.org");
    put_issuer(&weir, "pebble", issuer).await;
    let shown = valid(&weir, BASE).await;
    assert_eq!(shown["names"], json!([BASE, format!("*.{BASE}")]));
    assert_eq!(shown["proof"], "dns-01");
    // The local authority's certificate gave way without a restart, for apps to come too.
    let (app, root) = (unique("fresh"), pebble.root().await);
    weir.put_ready(&app, json!({"upstreams": [Upstream::start().await.address.to_string()]})).await;
    let host = format!("{app}.{BASE}");
    let answer = client(&weir, &root, &host).get(url(&weir, &host)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(pebble.count(ISSUED), 1, "{}", pebble.log());
    // Nobody else may issue for the zone, and nothing is left of the proof.
    let (_, issuer) = weir.api("GET", "/v1/issuers/pebble", None).await;
    let account = issuer["status"]["account"].as_str().unwrap().to_owned();
    let path = format!("/v1/zones/{BASE}/records");
    wait_for("the CAA records", async || {
        let (_, records) = weir.api("GET", &path, None).await;
        let text = records.to_string();
        (text.contains(&account) && !text.contains("_acme-challenge")).then_some(())
    })
    .await;
    // With them, a name of the zone is issued still: the account is ours.
    assert!(weir.cli(&["cert", "renew", BASE]).status.success());
    wait_for("the renewal", async || (pebble.count(ISSUED) == 2).then_some(())).await;
}
