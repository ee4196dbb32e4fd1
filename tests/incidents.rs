//! What goes wrong: it is recorded, told of, and does not go on; a process that cannot go on ends
//! itself, and what it died of is left out.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, os::unix::process::ExitStatusExt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{
    Weir,
    sink::{Posted, Sink},
    upstream::Upstream,
    wait_for,
};

const NO_ENGINE: [&str; 2] = ["--docker", "/nonexistent/docker.sock"];

/// An app of one upstream that is probed often.
fn app(upstream: &Upstream, hostnames: &[&str]) -> Value {
    json!({
        "upstreams": [upstream.address.to_string()],
        "health": {"type": "http", "path": "/healthz", "interval": "100ms", "fall": 1},
        "hostnames": hostnames,
        "http": "serve",
    })
}

/// HMAC-SHA256 as RFC 2104 has it, apart from Weir's own.
fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let keyed = |pad: u8, rest: &[u8]| {
        let padded = block.map(|byte| byte ^ pad);
        Sha256::new().chain_update(padded).chain_update(rest).finalize().to_vec()
    };
    keyed(0x5c, &keyed(0x36, message.as_bytes()))
}

/// The message of a request whose signature is right.
fn verified(posted: &Posted, key: &[u8]) -> Value {
    let header = |name: &str| posted.headers[name].as_str();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = format!("{id}.{timestamp}.{}", posted.body);
    let expected = format!("v1,{}", STANDARD.encode(hmac(key, &signed)));
    assert_eq!(header("webhook-signature"), expected);
    assert_eq!(header("content-type"), "application/json");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(timestamp.parse().unwrap()) < 60, "{timestamp}");
    serde_json::from_str(&posted.body).unwrap()
}

fn run(weir: &Weir, args: &[&str], code: i32) -> String {
    let output = weir.cli(args);
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
    told
}

async fn incidents(weir: &Weir, query: &str) -> Vec<Value> {
    let (status, list) = weir.api("GET", &format!("/v1/incidents{query}"), None).await;
    assert_eq!(status, 200, "{list:#}");
    list["items"].as_array().unwrap().clone()
}

// The command line is waited for while the sinks answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_recorded_told_of_and_resolved_when_its_cause_is_gone() {
    let weir = Weir::start_with(&NO_ENGINE).await;
    let (upstream, sink, chat) =
        (Upstream::start().await, Sink::failing(2).await, Sink::failing(0).await);
    let key = [7; 32];
    let secret = format!("whsec_{}", STANDARD.encode(key));
    let url = format!("http://{}/hook?token=hidden", sink.address);
    let set = ["notifier", "set", "ops", "--to", &url, "--min-severity", "critical"];
    let unsigned = run(&weir, &set, 2);
    assert!(unsigned.contains("write a secret"), "{unsigned}");
    let file = weir.dir.path().join("secret");
    fs::write(&file, format!("{secret}\n")).unwrap();
    run(&weir, &[&set[..], &["--secret-file", file.to_str().unwrap()]].concat(), 0);
    run(&weir, &set, 0);
    let url = format!("http://{}/services/hidden", chat.address);
    run(&weir, &["notifier", "set", "chat", "--format", "slack", "--to", &url], 0);
    let shown = run(&weir, &["notifier", "ls", "-o", "json"], 0);
    assert!(!shown.contains("hidden") && !shown.contains(&secret), "{shown}");
    assert!(shown.contains("\"has_secret\": true"), "it stays when it is left out: {shown}");

    weir.put_ready("legacy", app(&upstream, &["legacy.test"])).await;
    upstream.set_healthy(false);
    let incident = wait_for("the incident", async || {
        incidents(&weir, "?state=open&subject=App/legacy").await.pop()
    })
    .await;
    assert_eq!(
        (&incident["rule"], &incident["severity"]),
        (&json!("app-unhealthy"), &json!("critical"))
    );
    assert!(incident["detail"].as_str().unwrap().contains("no upstream"), "{incident:#}");
    let id = incident["id"].as_str().unwrap();

    let of_legacy = |sink: &Sink| -> Vec<Posted> {
        sink.posted().into_iter().filter(|posted| posted.body.contains("legacy")).collect()
    };
    let opened = wait_for("the message, after it was refused", async || {
        let posted = of_legacy(&sink);
        (sink.posted().len() >= 3 && !posted.is_empty()).then_some(posted)
    })
    .await;
    let mut ids: Vec<_> = sink.posted().iter().map(|p| p.headers["webhook-id"].clone()).collect();
    let tries = ids.len();
    ids.sort();
    ids.dedup();
    assert!(ids.len() < tries, "a message that is tried again is the same one: {ids:?}");
    let message = verified(opened.last().unwrap(), &key);
    assert_eq!(message["type"], "incident.opened", "{message:#}");
    assert_eq!(message["data"]["id"], id);
    let told = wait_for("the chat", async || of_legacy(&chat).pop()).await;
    let text: Value = serde_json::from_str(&told.body).unwrap();
    assert!(text["text"].as_str().unwrap().starts_with("*critical*: nothing serves legacy"));
    assert!(!told.headers.contains_key("webhook-signature"));

    assert!(run(&weir, &["incident", "ls"], 0).contains(id));
    assert!(run(&weir, &["incident", "ack", id], 0).contains("acknowledged by"));
    run(&weir, &["incident", "note", id, "on my way"], 0);
    assert!(run(&weir, &["explain", "legacy.test"], 0).contains(id));
    assert!(weir.metrics().await.contains("weir_incidents_open{rule=\"app-unhealthy\"} 1"));
    assert!(run(&weir, &["incident", "show", "inc-none"], 2).contains("there is no incident"));

    upstream.set_healthy(true);
    wait_for("the end of it", async || {
        incidents(&weir, "?state=open&subject=App/legacy").await.is_empty().then_some(())
    })
    .await;
    let (_, shown) = weir.api("GET", &format!("/v1/incidents/{id}"), None).await;
    let events = shown["events"].as_array().unwrap().iter();
    let actions: Vec<_> = events.map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["opened", "acknowledged", "note", "resolved"], "{shown:#}");
    wait_for("the last message", async || {
        let message = verified(of_legacy(&sink).last()?, &key);
        (message["type"] == "incident.resolved" && message["data"]["id"] == id).then_some(())
    })
    .await;
    let tested = run(&weir, &["notifier", "test", "ops"], 0);
    assert!(tested.contains("took the test message"), "{tested}");
    run(&weir, &["notifier", "rm", "ops"], 0);
    assert!(run(&weir, &["notifier", "test", "ops"], 2).contains("there is no notifier"));
}

// The command line is waited for while the sink answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_is_applied_like_any_object_and_nothing_secret_of_it_is_on_disk() {
    let weir = Weir::start_with(&NO_ENGINE).await;
    let sink = Sink::failing(0).await;
    let url = format!("http://{}/hook?key=hidden", sink.address);
    let secret = |key: [u8; 32]| format!("whsec_{}", STANDARD.encode(key));
    let apply = |secret: Option<String>, more: &[&str], code: i32| {
        let mut written = json!({"kind": "Notifier", "name": "ops", "spec": {"url": url}});
        if let Some(secret) = secret {
            written["spec"]["secret"] = json!(secret);
        }
        let args = [&["apply", "-f", "-"], more].concat();
        let output = weir.cli_with_input(&args, &written.to_string());
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(!told.contains("hidden") && !told.contains("whsec_"), "{told}");
        told
    };
    let shown = format!("http://{}/hook?…", sink.address);
    let (one, two) = ([1; 32], [2; 32]);
    let refused = apply(None, &["--dry-run"], 2);
    assert!(refused.contains("write a secret"), "before anything is changed: {refused}");
    let told = apply(Some(secret(one)), &["--dry-run"], 0);
    assert!(told.contains(&format!("+ Notifier/ops  create  tells {shown}")), "{told}");
    assert!(run(&weir, &["notifier", "ls"], 0).contains("no notifiers"), "nothing was changed");
    apply(Some(secret(one)), &[], 0);
    for unchanged in [Some(secret(one)), None] {
        let told = apply(unchanged, &[], 0);
        assert!(told.contains("= Notifier/ops  unchanged"), "{told}");
    }
    let told = apply(Some(secret(two)), &["--dry-run"], 0);
    assert!(told.contains("~ Notifier/ops  secret changed"), "{told}");
    apply(Some(secret(two)), &[], 0);

    let rotated = run(&weir, &["secret", "rotate-key"], 0);
    assert!(rotated.contains('1'), "{rotated}");
    let weir = weir.kill_and_restart().await;
    run(&weir, &["notifier", "test", "ops"], 0);
    let posted = sink.posted().pop().unwrap();
    assert_eq!(verified(&posted, &two)["type"], "notifier.test");

    let (_, audit) = weir.api("GET", "/v1/audit", None).await;
    let done: Vec<_> = audit["items"].as_array().unwrap().iter().collect();
    let verbs: Vec<_> = done.iter().map(|record| record["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["rotate-key", "put", "put"], "{audit:#}");
    assert_eq!((&done[2]["name"], &done[2]["after"]["url"]), (&json!("ops"), &json!(shown)));
    for file in fs::read_dir(&weir.state).unwrap() {
        let path = file.unwrap().path();
        let kept = fs::read(&path).unwrap_or_default();
        for word in ["key=hidden".to_owned(), secret(one), secret(two)] {
            let is_there = kept.windows(word.len()).any(|bytes| bytes == word.as_bytes());
            // What was given to the command line is the test's own file.
            assert!(!is_there || path.ends_with("input.yaml"), "{word} is in {}", path.display());
        }
    }
}

#[tokio::test]
async fn a_process_of_which_a_part_stands_still_ends_itself() {
    for (runtime, what) in
        [("proxy", "of those that carry requests"), ("control", "the control loop")]
    {
        let mut weir = Weir::start_set_up(|command, _| {
            command.args(NO_ENGINE).env("WEIR_STALL", runtime).env("WEIR_WATCHDOG", "1s");
        })
        .await;
        fs::write(weir.state.join("stall"), "").unwrap();
        let ended = weir.end().await;
        assert_eq!(ended.signal(), Some(6), "aborted: {ended:?}");
        wait_for("its last words", async || {
            let log = weir.log();
            let last = log.lines().find(|line| line.contains("has stood still"))?;
            assert!(last.contains(what), "{last}");
            Some(())
        })
        .await;
    }
}

/// How a plain request for a host is answered; one that is not served is sent to HTTPS.
async fn status(weir: &Weir, host: &str) -> u16 {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let request = client.build().unwrap().get(format!("http://{}/", weir.http));
    request.header("host", host).send().await.unwrap().status().as_u16()
}

/// Waits until nothing that is served is on trial any more.
async fn settled(weir: &Weir) {
    wait_for("what is served to be good", async || {
        let journal = fs::read(weir.state.join("attempts.jsonl")).ok()?;
        (journal.is_empty() && weir.state.join("last-good.json").exists()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_the_process_is_killed_at_twice_is_served_as_it_was_before_until_it_changes() {
    let mut weir = Weir::start_with(&NO_ENGINE).await;
    let upstream = Upstream::start().await;
    weir.put_ready("shop", app(&upstream, &["good.test"])).await;
    settled(&weir).await;
    // On a busy machine a life may be long enough to be taken for good.
    let mut poison = String::new();
    for round in 0..10 {
        poison = format!("poison{round}.test");
        weir.put_ready("shop", app(&upstream, &["good.test", &poison])).await;
        weir = weir.kill_and_restart().await;
        wait_for("it to be served again", async || {
            (status(&weir, &poison).await == 200).then_some(())
        })
        .await;
        weir = weir.kill_and_restart().await;
        if weir.state.join("quarantine.json").exists() {
            break;
        }
        settled(&weir).await;
    }
    assert_eq!(status(&weir, "good.test").await, 200, "{}", weir.log());
    assert_ne!(status(&weir, &poison).await, 200, "{}", weir.log());
    let incident = wait_for("the incident", async || {
        incidents(&weir, "?state=open&subject=App/shop").await.pop()
    })
    .await;
    assert_eq!(incident["rule"], "snapshot-quarantined", "{incident:#}");
    let shown = run(&weir, &["snapshot", "show"], 0);
    assert!(shown.contains("App/shop") && shown.contains("quarantined"), "{shown}");
    weir.put_ready("shop", app(&upstream, &["good.test", "better.test"])).await;
    wait_for("the change", async || (status(&weir, "better.test").await == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn a_damaged_snapshot_on_disk_gives_way_to_the_one_before() {
    let mut weir = Weir::start_with(&NO_ENGINE).await;
    let upstream = Upstream::start().await;
    weir.put_ready("shop", app(&upstream, &["one.test"])).await;
    settled(&weir).await;
    weir.put_ready("shop", app(&upstream, &["one.test", "two.test"])).await;
    let file = weir.state.join("last-good.json");
    wait_for("the snapshot on disk, and the one before", async || {
        let former = fs::read_to_string(weir.state.join("last-good.prev.json")).ok()?;
        let newest = fs::read_to_string(&file).ok()?;
        (former.contains("one.test") && newest.contains("two.test")).then_some(())
    })
    .await;
    weir.kill();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let weir = Weir::restart_with(weir, &NO_ENGINE).await;
    wait_for("both names", async || {
        let found = (status(&weir, "one.test").await, status(&weir, "two.test").await);
        (found == (200, 200)).then_some(())
    })
    .await;
    let log = weir.log();
    assert!(log.contains("is damaged") && log.contains("the last snapshot but one"), "{log}");
    tokio::time::timeout(Duration::from_secs(60), settled(&weir)).await.unwrap();
}
