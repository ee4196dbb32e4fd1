//! Whatever is wrong, the answer says what it is and what to do, and nothing is half done.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Weir, command, image, relay::Relay, spec, unique, wait_for};

async fn refused(weir: &Weir, name: &str, spec: Value) -> Value {
    let body = json!({"kind": "App", "name": name, "spec": spec});
    let (status, problem) = weir.api("POST", "/v1/apps", Some(body)).await;
    assert_eq!(status, 422, "{problem:#}");
    assert_eq!(problem["status"], 422);
    problem
}

fn codes(problem: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| (text(&error["pointer"]), text(&error["code"]))).collect()
}

#[tokio::test]
async fn every_problem_of_a_spec_is_told_with_its_field() {
    let weir = Weir::start().await;
    let spec =
        json!({"image": "a", "prot": 80, "instances": "two", "sleep": {"pause_after": "soon"}});
    let problem = refused(&weir, "shop", spec).await;
    let mut found = codes(&problem);
    found.sort();
    let expected = [
        ("/spec/instances", "invalid_value"),
        ("/spec/prot", "unknown_field"),
        ("/spec/sleep/pause_after", "invalid_value"),
    ];
    assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let text = problem.to_string();
    assert!(text.contains("did you mean `port`?"), "{text}");
    assert!(weir.api("GET", "/v1/apps", None).await.1["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_name_that_cannot_be_is_refused_with_the_reason() {
    let weir = Weir::start().await;
    for (name, why) in [
        ("a--b", "kept for environments"),
        ("Shop", "did you mean `shop`?"),
        ("admin", "reserved word"),
        ("", "needs a name"),
    ] {
        let problem = refused(&weir, name, json!({"image": "a"})).await;
        assert_eq!(codes(&problem), [("/name".to_owned(), "bad_name".to_owned())]);
        let message = problem["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(why), "{name}: {message}");
    }
}

#[tokio::test]
async fn a_taken_name_and_a_taken_host_name_are_conflicts() {
    let weir = Weir::start().await;
    let (one, two) = (unique("one"), unique("two"));
    weir.put_ready(&one, spec(json!({"hostnames": ["www.example.test"]}))).await;
    let body = |name: &str| json!({"kind": "App", "name": name, "spec": spec(json!({"hostnames": ["www.example.test"]}))});
    let (status, problem) = weir.api("POST", "/v1/apps", Some(body(&one))).await;
    assert_eq!((status, &problem["code"]), (409, &json!("name_taken")), "{problem:#}");
    let (status, problem) = weir.api("POST", "/v1/apps", Some(body(&two))).await;
    assert_eq!((status, &problem["code"]), (409, &json!("hostname_taken")), "{problem:#}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("www.example.test") && detail.contains(&one), "{detail}");
}

#[tokio::test]
async fn without_a_token_nothing_is_told() {
    let weir = Weir::start().await;
    let answer = reqwest::get(format!("{}/v1/apps", weir.admin)).await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert!(answer.text().await.unwrap().contains("admin.token"));
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(weir.state.join("admin.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_told_by_name() {
    let weir = Weir::start().await;
    let name = unique("noimage");
    let app = weir.put(&name, json!({"image": "localhost:1/none/such:1"})).await;
    assert_eq!(app["status"]["phase"], "failed", "{app:#}");
    let failure = &app["status"]["failure"];
    assert_eq!(failure["reason"], "ImageUnavailable", "{failure:#}");
    assert!(
        failure["message"].as_str().unwrap().contains("localhost:1/none/such:1"),
        "{failure:#}"
    );
}

#[tokio::test]
async fn a_container_that_exits_at_once_is_told_at_once_with_its_last_words() {
    let weir = Weir::start().await;
    let name = unique("exits");
    let began = Instant::now();
    let rollout = json!({"deadline": "50s"});
    let app = weir.put(&name, spec(json!({"env": {"EXIT_AT_ONCE": 3}, "rollout": rollout}))).await;
    assert!(began.elapsed() < Duration::from_secs(45), "not at the deadline");
    let failure = &app["status"]["failure"];
    assert_eq!(app["status"]["phase"], "failed", "{app:#}");
    assert_eq!(failure["reason"], "InstanceExited", "{failure:#}");
    assert_eq!(failure["exit_code"], 3);
    assert!(failure["log_tail"].to_string().contains("boom: cannot start"), "{failure:#}");
    let (status, page) = weir.get(&name, "/").await;
    assert_eq!(status, 503);
    assert!(page.contains("cannot be served") && !page.contains("code 3"), "{page}");
    assert!(failure["message"].as_str().unwrap().contains("exited with code 3"), "{failure:#}");
}

#[tokio::test]
async fn a_health_check_that_never_passes_fails_at_its_deadline_with_the_last_answer() {
    let weir = Weir::start().await;
    let name = unique("unwell");
    let rollout = json!({"deadline": "2s"});
    let app = weir.put(&name, spec(json!({"env": {"FAIL_HEALTH": 1}, "rollout": rollout}))).await;
    let failure = &app["status"]["failure"];
    assert_eq!(failure["reason"], "HealthCheckFailed", "{app:#}");
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("not ready 2s after its start"), "{message}");
    assert!(message.contains("GET /healthz") && message.contains("503"), "{message}");
}

#[tokio::test]
async fn a_broken_deployment_leaves_the_former_one_serving() {
    let weir = Weir::start().await;
    let name = unique("kept");
    weir.put_ready(&name, spec(json!({"env": {"VERSION": "good"}}))).await;
    let app = weir.put(&name, spec(json!({"env": {"EXIT_AT_ONCE": 1}}))).await;
    assert_eq!(app["status"]["phase"], "degraded", "{app:#}");
    let (status, text) = weir.get(&name, "/").await;
    assert!(status == 200 && text.contains("good"), "{status} {text}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_told_and_its_return_is_noticed() {
    let relay = Relay::new();
    let socket = relay.socket.display().to_string();
    let weir = Weir::start_with(&["--docker", &socket]).await;
    let (status, problem) = weir.api("GET", "/readyz", None).await;
    assert_eq!(status, 503, "{problem:#}");
    let name = unique("later");
    weir.adopt(&name);
    let body = json!({"kind": "App", "name": name, "spec": spec(json!({}))});
    let (status, app) = weir.api("POST", "/v1/apps", Some(body)).await;
    assert_eq!(status, 201, "what is wanted can be said at any time: {app:#}");
    let hosts = wait_for("the engine to be missed", async || {
        let (_, hosts) = weir.api("GET", "/v1/hosts", None).await;
        hosts["items"][0]["status"]["message"].as_str().map(str::to_owned)
    });
    assert!(hosts.await.contains(&socket));

    relay.open();
    weir.wait_for_phase(&name, "ready").await;
    assert_eq!(weir.get(&name, "/").await.0, 200);

    relay.close();
    wait_for("the engine to be missed again", async || {
        let (_, hosts) = weir.api("GET", "/v1/hosts", None).await;
        (hosts["items"][0]["status"]["state"] == "suspect").then_some(())
    })
    .await;
    assert_eq!(weir.get(&name, "/").await.0, 200, "what runs serves on");
    relay.open();
    weir.ready().await;
}

/// Runs `weir serve` to its end, which must be an error.
fn fails(mut serve: std::process::Command) -> String {
    let Output { status, stderr, .. } =
        serve.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[tokio::test]
async fn a_port_in_use_is_told_with_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut serve = command(dir.path(), &[]);
    serve.env("WEIR_HTTPS", &address);
    let error = fails(serve);
    assert!(error.contains(&address) && error.contains("--https"), "{error}");
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
}

#[tokio::test]
async fn two_servers_on_one_state_directory_are_refused() {
    let weir = Weir::start().await;
    let error = fails(command(&weir.state, &[]));
    assert!(error.contains(&weir.state.display().to_string()), "{error}");
    assert!(error.contains(&format!("process {}", weir.pid())), "{error}");
}

#[tokio::test]
async fn settings_that_cannot_be_are_all_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.yaml");
    fs::write(&file, "base_domian: a.example\nthreads: many\n").unwrap();
    let mut serve = command(dir.path(), &[]);
    serve.env("WEIR_CONFIG", &file);
    let error = fails(serve);
    assert!(error.contains("1:1: base_domian") && error.contains("2:1: threads"), "{error}");

    let mut serve = command(dir.path(), &[]);
    serve.env("WEIR_BASE_DOMIAN", "a.example");
    let error = fails(serve);
    assert!(error.contains("WEIR_BASE_DOMIAN is not known"), "{error}");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_lets_traffic_be() {
    let weir = Weir::start_on_small_disk(4 << 20).await;
    let name = unique("full");
    weir.put_ready(&name, spec(json!({}))).await;
    let filler = weir.state.join("filler");
    // Writes until nothing more fits.
    let _ = fs::write(&filler, vec![0u8; 8 << 20]);

    let mut refused = None;
    for round in 0..200 {
        let spec = json!({"image": image(), "env": {"FILL": "x".repeat(10_000), "N": round}});
        let body = json!({"kind": "App", "name": name, "spec": spec});
        let (status, problem) = weir.api("PUT", &format!("/v1/apps/{name}"), Some(body)).await;
        if status != 200 {
            refused = Some((status, problem));
            break;
        }
    }
    let (status, problem) = refused.expect("a write that does not fit");
    assert_eq!(status, 507, "{problem:#}");
    assert_eq!(problem["code"], "store_full");
    assert_eq!(weir.get(&name, "/").await.0, 200);

    fs::remove_file(&filler).unwrap();
    weir.put_ready(&name, spec(json!({"env": {"VERSION": "after"}}))).await;
}
