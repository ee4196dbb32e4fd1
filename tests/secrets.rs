//! Secrets of apps: the container sees them, and nobody else does.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use support::{Weir, containers, docker, incarnation, spec, unique, wait_for};

/// A value that is nowhere else in the world.
fn value(of: &str) -> String {
    format!("{of}-{:016x}", rand::random::<u64>())
}

fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

/// Every file below a folder that holds a text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files_with(&entry, text));
        // Sockets cannot be read.
        } else if let Ok(bytes) = fs::read(&entry)
            && bytes.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(entry.display().to_string());
        }
    }
    found
}

/// Sets a secret by the command line, as an operator does.
fn set(weir: &Weir, app: &str, key: &str, value: &str) -> String {
    let done = weir.cli_with_input(&["secret", "set", app, key], &format!("{value}\n"));
    fs::remove_file(weir.dir.path().join("input.yaml")).unwrap();
    assert!(done.status.success(), "{}\n{}", text(&done), weir.log());
    text(&done)
}

async fn deployment(weir: &Weir, app: &str) -> Value {
    weir.api("GET", &format!("/v1/apps/{app}"), None).await.1["status"]["deployment"].clone()
}

#[tokio::test]
async fn a_secret_reaches_its_app_and_nobody_else() {
    // Whatever is asked for, it is not logged.
    let weir = Weir::start_with(&["--log-level", "trace"]).await;
    let (app, broken) = (unique("vault"), unique("crash"));
    let (first, second) = (value("first"), value("second"));
    let mut said = set(&weir, &app, "VERSION", &first);
    assert!(said.contains("is not there yet"), "{said}");
    let shown = weir.put_ready(&app, spec(json!({}))).await;
    assert!(weir.get(&app, "/").await.1.contains(&first), "the container does not see it");
    assert_eq!(shown["status"]["deployment"], 1);

    let path = format!("/v1/apps/{app}/secrets/VERSION?wait=60s");
    let (status, list) = weir.api("PUT", &path, Some(json!({"value": second}))).await;
    assert_eq!((status, &list["items"][0]["name"]), (200, &json!("VERSION")), "{list:#}");
    assert_eq!(deployment(&weir, &app).await, 2, "another value is another deployment");
    assert!(weir.get(&app, "/").await.1.contains(&second));
    said += &set(&weir, &app, "VERSION", &second);
    assert_eq!(deployment(&weir, &app).await, 2, "and the same value is none");

    assert_eq!(weir.get(&app, "/stdout?env=VERSION").await.0, 200);
    let logs = wait_for("the line", async || {
        let logs = text(&weir.cli(&["logs", &app]));
        logs.contains("***").then_some(logs)
    });
    said += &logs.await;
    set(&weir, &broken, "VERSION", &first);
    let failed = weir.put(&broken, spec(json!({"env": {"EXIT_AT_ONCE": "4"}}))).await;
    let tail = failed["status"]["failure"]["log_tail"].to_string();
    assert!(tail.contains("cannot start version ***"), "{failed:#}");

    let inspected = docker(&["ps", "-a", "--no-trunc", "--format", "{{json .}}"]);
    let processes = text(&Command::new("ps").args(["axww", "-o", "args"]).output().unwrap());
    assert!(processes.contains("weir-test-app"), "{processes}");
    for path in ["/v1/apps", "/v1/instances", &format!("/v1/apps/{app}/secrets"), "/metrics"] {
        said += &weir.api("GET", path, None).await.1.to_string();
    }
    // What is served is kept on disk within a second.
    wait_for("the snapshot on disk", async || {
        let saved = fs::read_to_string(weir.state.join("last-good.json")).ok()?;
        saved.contains(&app).then_some(())
    })
    .await;
    let log = weir.log();
    for secret in [&first, &second] {
        assert_eq!(files_with(&weir.state, secret), [""; 0]);
        for (place, text) in
            [("log", &log), ("answers", &said), ("labels", &inspected), ("ps", &processes)]
        {
            assert!(!text.contains(secret.as_str()), "{secret} is in the {place}");
        }
    }
    let mode = fs::metadata(weir.state.join("secrets.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused_at_its_place_and_not_repeated() {
    let weir = Weir::start().await;
    let app = unique("refused");
    weir.put(&app, spec(json!({"env": {"MODE": "fast"}}))).await;
    let path = format!("/v1/apps/{app}/secrets");
    for (body, pointer) in [
        (json!({"MODE": "hidden-value"}), "/MODE"),
        (json!({"NUMBER": 987_654_321}), "/NUMBER"),
        (json!({"LIST": ["hidden-value"]}), "/LIST"),
        (json!({"not/a name": "hidden-value"}), "/not~1a name"),
        (json!({"EMPTY": ""}), "/EMPTY"),
        (json!({"LONG": "hidden-value".repeat(6000)}), "/LONG"),
    ] {
        let (status, problem) = weir.api("PATCH", &path, Some(body)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)));
        let told = problem.to_string();
        assert!(!told.contains("hidden-value") && !told.contains("987654321"), "{told}");
    }
    let (status, problem) = weir.api("DELETE", &format!("{path}/NOTHING"), None).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    let (_, list) = weir.api("GET", &path, None).await;
    assert_eq!(list, json!({"items": []}));

    weir.api("PATCH", &path, Some(json!({"KEY": "x"}))).await;
    let both = json!({"kind": "App", "name": app, "spec": spec(json!({"env": {"KEY": "x"}}))});
    let (status, problem) = weir.api("PUT", &format!("/v1/apps/{app}"), Some(both)).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/spec/env/KEY")));
}

#[tokio::test]
async fn the_key_is_rotated_while_apps_run_and_a_lost_key_stops_no_traffic() {
    let weir = Weir::start().await;
    let (app, other) = (unique("rotated"), unique("other"));
    let secret = value("kept");
    set(&weir, &app, "VERSION", &secret);
    // A former deployment is kept for no time, so that there is one container.
    weir.put_ready(&app, spec(json!({"rollout": {"keep": "0s"}}))).await;
    let before = incarnation(&app);
    let key = weir.state.join("secrets.key");
    let former = fs::read(&key).unwrap();
    let rotated = weir.cli(&["secrets", "rotate-key"]);
    assert!(rotated.status.success(), "{}", text(&rotated));
    assert_ne!(fs::read(&key).unwrap(), former);
    assert_eq!(incarnation(&app), before, "a rotation is no deployment");
    let deployed = weir.cli(&["deploy", &app]);
    assert!(deployed.status.success(), "{}", text(&deployed));
    assert!(weir.get(&app, "/").await.1.contains(&secret));

    let away = weir.state.join("away");
    fs::rename(&key, &away).unwrap();
    let weir = weir.kill_and_restart().await;
    weir.ready().await;
    assert_eq!(weir.get(&app, "/").await.0, 200);
    weir.put_ready(&other, spec(json!({}))).await;
    let is_alone = async || (containers(&app).len() == 1).then_some(());
    wait_for("the former container to go", is_alone).await;
    let before = incarnation(&app);
    let path = format!("/v1/apps/{app}/actions/deploy?wait=30s");
    weir.api("POST", &path, Some(json!({}))).await;
    let failure = wait_for("the failure", async || {
        let (_, shown) = weir.api("GET", &format!("/v1/apps/{app}"), None).await;
        Some(shown["status"]["failure"].clone()).filter(Value::is_object)
    });
    let failure = failure.await;
    assert_eq!(failure["reason"], "SecretUnavailable", "{failure:#}");
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("VERSION") && message.contains("secrets.key"), "{message}");
    assert_eq!(incarnation(&app), before, "the former deployment serves on");
    assert_eq!(weir.get(&app, "/").await.0, 200);

    // Put back, it is found at the next try.
    fs::rename(&away, &key).unwrap();
    weir.wait_for_phase(&app, "ready").await;
    assert!(weir.get(&app, "/").await.1.contains(&secret));
}

#[tokio::test]
async fn killed_at_any_moment_of_a_rotation_everything_can_still_be_read() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut weir = Weir::start().await;
    let app = unique("killed");
    weir.adopt(&app);
    let body = json!({"kind": "App", "name": app, "spec": spec(json!({"instances": 1}))});
    weir.api("PUT", &format!("/v1/apps/{app}"), Some(body)).await;
    let values: Value = (0..99).map(|i| (format!("KEY_{i}"), json!(value("kept")))).collect();
    let path = format!("/v1/apps/{app}/secrets");
    let (status, list) = weir.api("PATCH", &path, Some(values.clone())).await;
    assert_eq!((status, list["items"].as_array().unwrap().len()), (200, 99));
    let before = deployment(&weir, &app).await;
    for round in 0..6_u32 {
        let rotation = async {
            loop {
                weir.api("POST", "/v1/secrets/actions/rotate-key", None).await;
            }
        };
        let moment = Duration::from_micros(seed.rotate_left(round * 9) % 60_000);
        let _ = tokio::time::timeout(moment, rotation).await;
        weir = weir.kill_and_restart().await;
        // What cannot be read is no longer the same value, and would be another deployment.
        let (status, answer) = weir.api("PATCH", &path, Some(values.clone())).await;
        assert_eq!(
            (status, &answer["items"]),
            (200, &list["items"]),
            "seed {seed}\n{}",
            weir.log()
        );
        assert_eq!(deployment(&weir, &app).await, before);
        let keys = fs::read_to_string(weir.state.join("secrets.key")).unwrap();
        assert_eq!(keys.lines().count(), 1, "the start ends a rotation");
    }
}
