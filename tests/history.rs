//! What was asked for, what came of it, and what happened: told once, in order, and still there
//! after a break.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use support::{
    Weir, containers, docker, spec,
    sse::{Sse, SseEvent},
    unique, wait_for,
};

/// An answer with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    status: u16,
    operation: Option<String>,
    location: Option<String>,
    etag: Option<String>,
    replayed: bool,
    body: String,
}

async fn send(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
    Answer {
        status: answer.status().as_u16(),
        operation: header("weir-operation"),
        location: header("location"),
        etag: header("etag"),
        replayed: header("idempotent-replayed").is_some(),
        body: answer.text().await.unwrap(),
    }
}

impl Answer {
    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn app_body(name: &str, fields: Value) -> Value {
    json!({"kind": "App", "name": name, "spec": spec(fields)})
}

fn shard_body(name: &str, port: u16) -> Value {
    let members = json!([{"address": format!("127.0.0.1:{port}")}]);
    json!({"kind": "Shard", "name": name, "spec": {"members": members}})
}

/// Makes an app what is written, and gives the operation.
async fn put_app(weir: &Weir, name: &str, fields: Value) -> String {
    weir.adopt(name);
    let request = weir.request("PUT", &format!("/v1/apps/{name}"));
    let answer = send(request.json(&app_body(name, fields))).await;
    assert!(answer.status == 200 || answer.status == 201, "{answer:?}");
    answer.operation.unwrap()
}

/// Waits until an operation is settled.
async fn settled(weir: &Weir, id: &str) -> Value {
    wait_for(&format!("{id} to be settled"), async || {
        let (status, operation) =
            weir.api("GET", &format!("/v1/operations/{id}?wait=30s"), None).await;
        assert_eq!(status, 200, "{operation:#}");
        (operation["state"] != "running").then_some(operation)
    })
    .await
}

#[tokio::test]
async fn every_change_has_an_operation_that_comes_to_an_end() {
    let weir = Weir::start().await;
    let app = unique("operation");
    let made = put_app(&weir, &app, json!({})).await;
    let operation = settled(&weir, &made).await;
    assert_eq!(operation["state"], "succeeded", "{operation:#}");
    assert_eq!((&operation["verb"], &operation["actor"]), (&json!("put"), &json!("admin")));
    assert_eq!((&operation["generation"], &operation["deployment"]), (&json!(1), &json!(1)));

    let path = format!("/v1/apps/{app}");
    let same = send(weir.request("PUT", &path).json(&app_body(&app, json!({})))).await;
    assert_eq!((same.status, same.operation), (200, None), "nothing has changed");

    // What is accepted later takes the place of what has not ended.
    let slow = json!({"env": {"START_DELAY_MS": "30000"}});
    let slow = put_app(&weir, &app, slow).await;
    let broken = json!({"env": {"EXIT_AT_ONCE": "7"}});
    let broken = put_app(&weir, &app, broken).await;
    assert_eq!(settled(&weir, &slow).await["state"], "superseded");
    let operation = settled(&weir, &broken).await;
    assert_eq!(operation["state"], "failed", "{operation:#}");
    assert!(operation["message"].as_str().unwrap().contains("code 7"), "{operation:#}");
    assert_eq!(weir.cli(&["operation", "wait", &broken]).status.code(), Some(3));

    // Once it has ended, nothing changes that: not a change, and not a crash.
    let mended = put_app(&weir, &app, json!({})).await;
    assert_eq!(settled(&weir, &mended).await["state"], "succeeded");
    let weir = weir.kill_and_restart().await;
    weir.ready().await;
    let expected = [(&made, "succeeded"), (&slow, "superseded"), (&broken, "failed")];
    for (id, state) in expected.into_iter().chain([(&mended, "succeeded")]) {
        assert_eq!(settled(&weir, id).await["state"], state, "{id}");
    }
    assert!(weir.cli(&["operation", "wait", &mended]).status.success());

    for (action, phase) in [("sleep", "paused"), ("wake", "ready")] {
        weir.wait_for_phase(&app, if action == "sleep" { "ready" } else { "paused" }).await;
        let answer = send(weir.request("POST", &format!("{path}/actions/{action}"))).await;
        let id = answer.operation.clone().unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.location, Some(format!("/v1/operations/{id}")));
        assert_eq!(settled(&weir, &id).await["state"], "succeeded", "{action}");
        assert_eq!(weir.phase(&app).await, phase);
    }

    let deleted = send(weir.request("DELETE", &path)).await;
    let id = deleted.operation.unwrap();
    assert_eq!(deleted.location, Some(format!("/v1/operations/{id}")));
    assert_eq!(settled(&weir, &id).await["state"], "succeeded");
    assert!(containers(&app).is_empty(), "it has succeeded when nothing is left");

    // All of them, the newest first, over as many pages as it takes.
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/operations?kind=App&name={app}&limit=2{cursor}");
        let (_, page) = weir.api("GET", &path, None).await;
        let items = page["items"].as_array().unwrap();
        found.extend(items.iter().map(|item| item["verb"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, ["delete", "wake", "sleep", "put", "put", "put", "put"]);
    let (status, problem) = weir.api("GET", "/v1/operations/op_999999", None).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn the_audit_log_has_who_changed_what_and_no_secrets() {
    let weir = Weir::start().await;
    let app = unique("audit");
    let env = json!({"NAME": "one", "API_KEY": "s3cr3t-value"});
    settled(&weir, &put_app(&weir, &app, json!({"env": env})).await).await;
    let env = json!({"NAME": "two", "API_KEY": "s3cr3t-other"});
    put_app(&weir, &app, json!({"env": env})).await;
    weir.api("DELETE", &format!("/v1/apps/{app}?wait=30s"), None).await;

    let (_, log) = weir.api("GET", &format!("/v1/audit?kind=App&name={app}"), None).await;
    let records = log["items"].as_array().unwrap();
    let verbs: Vec<_> = records.iter().map(|r| r["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["delete", "put", "put"]);
    assert_eq!(records[1]["before"]["env"]["NAME"], "one");
    assert_eq!(records[1]["after"]["env"]["NAME"], "two");
    assert_eq!(records[0]["before"]["env"]["NAME"], "two");
    assert!(records[0]["after"].is_null() && records[2]["before"].is_null());
    assert!(records.iter().all(|r| r["actor"] == "admin" && r["revision"].is_number()));
    assert!(!log.to_string().contains("s3cr3t"), "{log:#}");
    let table = weir.cli(&["audit", "--app", &app]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("env.NAME changed") && !table.contains("s3cr3t"), "{table}");
}

#[tokio::test]
async fn what_happens_to_an_app_is_told_in_order() {
    let weir = Weir::start().await;
    let app = unique("events");
    settled(&weir, &put_app(&weir, &app, json!({})).await).await;
    for action in ["sleep", "wake"] {
        let answer = send(weir.request("POST", &format!("/v1/apps/{app}/actions/{action}"))).await;
        settled(&weir, &answer.operation.unwrap()).await;
    }
    let broken = put_app(&weir, &app, json!({"env": {"EXIT_AT_ONCE": "7"}})).await;
    settled(&weir, &broken).await;
    let answer = send(weir.request("DELETE", &format!("/v1/apps/{app}"))).await;
    settled(&weir, &answer.operation.unwrap()).await;

    let path = format!("/v1/events?kind=App&name={app}&since=0&limit=1000");
    let events = wait_for("the last event", async || {
        let (_, events) = weir.api("GET", &path, None).await;
        let types = types(&events);
        let removed = types.iter().filter(|t| *t == "InstanceRemoved").count();
        (removed == 2).then_some(events)
    })
    .await;
    let expected = [
        "Created",
        "DeploymentMade",
        "InstanceCreated",
        "InstanceStarted",
        "InstanceReady",
        "InstancePaused",
        "InstanceResumed",
        "Changed",
        "DeploymentMade",
        "InstanceExited",
        "Deleted",
        "InstanceRemoved",
    ];
    let mut found = types(&events).into_iter();
    for wanted in expected {
        assert!(found.any(|found| found == wanted), "{wanted} in {events:#}");
    }
    let items = events["items"].as_array().unwrap();
    let exited = items.iter().find(|event| event["type"] == "InstanceExited").unwrap();
    assert_eq!((&exited["reason"], &exited["deployment"]), (&json!("InstanceExited"), &json!(2)));
    assert!(exited["message"].as_str().unwrap().contains("code 7"), "{exited:#}");
    let ids: Vec<_> = items.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let routes = items.iter().filter(|event| event["type"] == "RouteChanged");
    let reasons: Vec<_> = routes.map(|event| event["reason"].as_str().unwrap()).collect();
    assert!(["Serving", "Asleep", "Removed"].iter().all(|r| reasons.contains(r)), "{reasons:?}");

    // After one of them, only what came later.
    let middle = ids[ids.len() / 2];
    let path = format!("/v1/events?kind=App&name={app}&since={middle}&limit=1000");
    let (_, later) = weir.api("GET", &path, None).await;
    assert_eq!(later["items"].as_array().unwrap()[..], items[ids.len() / 2 + 1..]);
    // Also of an app that is gone; of one that never was, nothing.
    assert!(weir.cli(&["events", &app]).status.success());
    assert_eq!(weir.cli(&["events", "never-was"]).status.code(), Some(2));
}

fn types(events: &Value) -> Vec<String> {
    let items = events["items"].as_array().unwrap();
    items.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

/// Lines are written while a client breaks off a hundred times, and Weir itself is killed once.
#[tokio::test]
async fn a_deployments_log_is_whole_however_often_it_is_interrupted() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut weir = Weir::start().await;
    let app = unique("log");
    let rollout = json!({"deadline": "5m"});
    put_app(&weir, &app, json!({"env": {"FAIL_HEALTH": "1"}, "rollout": rollout})).await;
    let address = wait_for("the instance's address", async || {
        let (_, found) = weir.api("GET", "/v1/instances", None).await;
        let instance = found["items"].as_array()?.iter().find(|i| i["app"] == *app)?.clone();
        let address = instance["address"].as_str()?.to_owned();
        reqwest::get(format!("http://{address}/")).await.ok()?;
        Some(address)
    })
    .await;
    let writer = tokio::spawn(async move {
        let client = reqwest::Client::new();
        for line in 0..1500 {
            let text = format!("line-{line}-{}", "x".repeat(line % 200));
            let url = format!("http://{address}/stdout?text={text}");
            client.get(url).send().await.unwrap();
        }
        client.get(format!("http://{address}/toggle-health")).send().await.unwrap();
    });

    let path = format!("/v1/apps/{app}/deployments/1/logs");
    let (mut last, mut log, mut breaks) = (None::<String>, Vec::<SseEvent>::new(), 0);
    'read: loop {
        let Ok(mut stream) = Sse::open(&weir, &path, last.as_deref()).await else { break };
        let events = if breaks < 100 { random.random_range(0..20) } else { usize::MAX };
        for _ in 0..events {
            let Some(event) = stream.next().await else { break };
            last = event.id.clone();
            log.push(event);
            if log.last().unwrap().what == "end" {
                break 'read;
            }
        }
        breaks += 1;
        if breaks == 50 {
            weir = weir.kill_and_restart().await;
        }
    }
    writer.await.unwrap();
    assert!(breaks >= 100, "only {breaks} breaks: the log was too short");
    let seqs: Vec<u64> = log.iter().map(|e| e.id.as_ref().unwrap().parse().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "each once, in order");
    let end = log.last().unwrap();
    assert_eq!((end.what.as_str(), &end.data["state"]), ("end", &json!("live")), "{end:?}");
    let lines = log.iter().filter(|event| event.what == "log");
    let lines: Vec<_> = lines.map(|event| event.data["text"].as_str().unwrap()).collect();
    let name = containers(&app).into_keys().next().unwrap();
    assert_eq!(lines.join("\n"), docker(&["logs", &name]));
    let steps: Vec<_> = log.iter().filter(|event| event.what == "step").collect();
    let step = |what: &str| steps.iter().any(|step| step.data["type"] == what);
    assert!(step("DeploymentMade") && step("InstanceReady"), "{steps:#?}");

    // Of a log that has been told to its end, nothing more is to be had.
    assert_eq!(Sse::open(&weir, &path, last.as_deref()).await.err(), Some(204));
    let other = format!("/v1/apps/{app}/deployments/9/logs");
    assert_eq!(Sse::open(&weir, &other, None).await.err(), Some(404));
    let printed = weir.cli(&["logs", &app, "--deployment", "1"]);
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("line-1499-") && printed.contains("InstanceReady"), "{printed}");
}

#[tokio::test]
async fn a_deployment_that_fails_is_followed_to_its_end() {
    let weir = Weir::start().await;
    let app = unique("follow");
    settled(&weir, &put_app(&weir, &app, json!({})).await).await;
    put_app(&weir, &app, json!({"env": {"EXIT_AT_ONCE": "7"}})).await;
    let deployed = weir.cli(&["deploy", &app, "--follow", "--wait", "50s"]);
    let printed = String::from_utf8(deployed.stdout).unwrap();
    assert_eq!(deployed.status.code(), Some(3), "{printed}");
    for part in ["deployment 3", "InstanceExited", "boom: cannot start"] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
}

#[tokio::test]
async fn a_watch_misses_nothing_over_a_break() {
    let weir = Weir::start().await;
    let put = async |name: &str, port: u16| {
        let path = format!("/v1/shards/{name}");
        let (status, shard) = weir.api("PUT", &path, Some(shard_body(name, port))).await;
        assert!(status < 300, "{shard:#}");
        shard
    };
    put("first", 1).await;
    let (_, list) = weir.api("GET", "/v1/shards", None).await;
    let since = list["revision"].as_u64().unwrap();

    // All there is, then what changes.
    let mut whole = Sse::open(&weir, "/v1/watch?kinds=Shard", None).await.ok().unwrap();
    let told = whole.until(|event| event.what == "synced").await;
    let names: Vec<_> = told.iter().map(|event| event.data["name"].as_str()).collect();
    assert_eq!(names, [Some("first"), None]);
    let second = put("second", 2).await;
    let told = whole.until(|event| is_of(event, "second")).await;
    let found = told.last().unwrap();
    assert_eq!(found.what, "put");
    assert_eq!(found.data["spec"], second["spec"]);
    let last = found.id.clone().unwrap();
    let revision: u64 = last.split('.').next().unwrap().parse().unwrap();
    assert!(revision >= second["revision"].as_u64().unwrap(), "{last}");
    drop(whole);

    // What happens while nobody watches; several changes of one are told once.
    for port in 3..8 {
        put("second", port).await;
    }
    weir.api("DELETE", "/v1/shards/first", None).await;
    put("third", 3).await;
    let mut again = Sse::open(&weir, "/v1/watch?kinds=Shard", Some(&last)).await.ok().unwrap();
    let told = again.until(|event| event.what == "synced").await;
    let mut objects: Vec<_> = told.iter().filter(|event| event.what != "synced").collect();
    objects.sort_by_key(|event| event.data["name"].to_string());
    let objects: Vec<_> =
        objects.iter().map(|e| (e.what.as_str(), e.data["name"].as_str().unwrap())).collect();
    assert_eq!(objects, [("delete", "first"), ("put", "second"), ("put", "third")]);
    let newest = told.iter().find(|event| is_of(event, "second")).unwrap();
    assert_eq!(newest.data["spec"]["members"][0]["address"], "127.0.0.1:7");
    // It says how far it is although nothing changes.
    again.until(|event| event.what == "bookmark").await;

    // From a list on; and of what this server cannot know, it says so.
    let path = format!("/v1/watch?kinds=Shard&since={since}");
    let mut since = Sse::open(&weir, &path, None).await.ok().unwrap();
    let told = since.until(|event| event.what == "synced").await;
    assert!(told.iter().any(|event| is_of(event, "third")), "{told:#?}");
    let (status, problem) = weir.api("GET", "/v1/watch?since=999999", None).await;
    assert_eq!((status, &problem["code"]), (410, &json!("revision_gone")), "{problem:#}");
    for bad in ["since=x", "kinds=Nothing"] {
        let (status, _) = weir.api("GET", &format!("/v1/watch?{bad}"), None).await;
        assert_eq!(status, 400, "{bad}");
    }
}

fn is_of(event: &SseEvent, name: &str) -> bool {
    event.data["name"] == name
}

#[tokio::test]
async fn a_request_with_a_key_is_done_once() {
    let weir = Weir::start().await;
    let app = unique("once");
    settled(&weir, &put_app(&weir, &app, json!({})).await).await;
    let deploy = format!("/v1/apps/{app}/actions/deploy");
    let with_key = |method: &str, path: &str, key: &str, body: Value| {
        weir.request(method, path).header("idempotency-key", key).json(&body)
    };
    // Sent several times at once: one is done, the others are told so or told to wait.
    let sent = (0..8).map(|_| send(with_key("POST", &deploy, "k1", json!({}))));
    let answers = futures::future::join_all(sent).await;
    let done: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
    assert!(!done.is_empty() && done.iter().filter(|answer| !answer.replayed).count() == 1);
    let waiting = answers.iter().filter(|answer| answer.status != 202);
    waiting.for_each(|answer| assert_eq!(answer.code(), "idempotency_in_progress", "{answer:?}"));
    let first = done[0].clone();
    let number = || async {
        weir.api("GET", &format!("/v1/apps/{app}"), None).await.1["status"]["deployment"].clone()
    };
    assert_eq!(number().await, 2, "one deployment");

    let again = send(with_key("POST", &deploy, "k1", json!({}))).await;
    assert_eq!(again, Answer { replayed: true, ..first.clone() });
    let cases = [
        ("another body", "POST", deploy.clone(), "k1", json!({"image": "other"}), 422),
        ("another path", "POST", format!("/v1/apps/{app}/actions/wake"), "k1", json!({}), 422),
        ("no key at all", "POST", deploy.clone(), "", json!({}), 400),
        ("a key that is too long", "POST", deploy.clone(), &"k".repeat(256), json!({}), 400),
        ("a refusal", "PUT", format!("/v1/shards/{app}"), "k2", json!({"kind": "Shard"}), 422),
        (
            "the refusal again",
            "PUT",
            format!("/v1/shards/{app}"),
            "k2",
            json!({"kind": "Shard"}),
            422,
        ),
        ("what is not there", "DELETE", "/v1/shards/nobody".to_owned(), "k3", json!({}), 404),
    ];
    for (case, method, path, key, body, status) in cases {
        let answer = send(with_key(method, &path, key, body)).await;
        assert_eq!(answer.status, status, "{case}: {answer:?}");
        assert_eq!(answer.replayed, case == "the refusal again", "{case}: {answer:?}");
    }
    assert_eq!(number().await, 2);

    // Still known after a crash; and another key is another request.
    let weir = weir.kill_and_restart().await;
    let request = weir.request("POST", &deploy).header("idempotency-key", "k1").json(&json!({}));
    assert_eq!(send(request).await, Answer { replayed: true, ..first });
    let request = weir.request("POST", &deploy).header("idempotency-key", "k4").json(&json!({}));
    assert_eq!(send(request).await.status, 202);
    let (_, now) = weir.api("GET", &format!("/v1/apps/{app}"), None).await;
    assert_eq!(now["status"]["deployment"], 3);
}

#[tokio::test]
async fn preconditions_preferences_and_pages_are_kept() {
    let weir = Weir::start().await;
    for (i, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let path = format!("/v1/shards/{name}");
        weir.api("PUT", &path, Some(shard_body(name, i as u16 + 1))).await;
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = weir.api("GET", &format!("/v1/shards?limit=2{cursor}"), None).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2 && page["revision"].is_number(), "{page:#}");
        found.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, ["a", "b", "c", "d", "e"]);
    for bad in ["limit=0", "limit=1001", "limit=x"] {
        assert_eq!(weir.api("GET", &format!("/v1/shards?{bad}"), None).await.0, 400, "{bad}");
    }

    let etag = send(weir.request("GET", "/v1/shards/a")).await.etag.unwrap();
    // Each in its turn: what is refused changes nothing.
    let cases = [
        ("DELETE", "/v1/shards/a", "if-match", "\"9999\"", 412),
        ("DELETE", "/v1/shards/none", "if-match", "\"1\"", 412),
        ("DELETE", "/v1/shards/none", "if-match", "*", 412),
        ("DELETE", "/v1/shards/none", "x-nothing", "", 404),
        ("PUT", "/v1/shards/none", "if-match", "\"1\"", 412),
        ("PUT", "/v1/shards/a", "if-match", "\"9999\"", 412),
        ("PUT", "/v1/shards/a", "if-match", "one", 400),
        ("PUT", "/v1/shards/a", "if-none-match", "*", 409),
        ("PUT", "/v1/shards/a", "if-match", "*", 200),
        ("DELETE", "/v1/shards/a", "if-match", &etag, 202),
        ("GET", "/v1/shards/a", "x-nothing", "", 404),
    ];
    for (method, path, header, value, status) in cases {
        let name = path.rsplit('/').next().unwrap();
        let request = weir.request(method, path).header(header, value);
        let answer = send(request.json(&shard_body(name, 1))).await;
        assert_eq!(answer.status, status, "{method} {path} {header}: {value}: {answer:?}");
    }

    // Nobody listens there: it is settled once the first probes have failed.
    let request = weir.request("PUT", "/v1/shards/f").header("prefer", "respond-async, wait=20");
    let answer = send(request.json(&shard_body("f", 9))).await;
    let shard: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(shard["status"]["phase"], "failed", "{shard:#}");
}
