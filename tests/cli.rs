//! The command line, talking to a running server.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use support::{Weir, containers, image, spec, unique, wait_for};

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{:?}: {}", output.status, text(output));
    text(output)
}

fn fails(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    text(output)
}

#[tokio::test]
async fn apply_tells_what_it_will_change_and_then_does_it() {
    let weir = Weir::start().await;
    let (one, two) = (unique("one"), unique("two"));
    weir.adopt(&one);
    weir.adopt(&two);
    let image = image();
    let documents = |version: &str| {
        format!(
            "kind: App\nname: {one}\nspec:\n  image: {image}\n  env: {{VERSION: {version}}}\n\
             ---\nkind: App\nname: {two}\nspec:\n  image: {image}\n"
        )
    };
    let plan = weir.cli_with_input(&["apply", "-f", "-", "--dry-run"], &documents("v1"));
    assert!(succeeds(&plan).contains(&format!("+ App/{one}")), "{}", text(&plan));
    assert_eq!(weir.phase(&one).await, "none", "a dry run changes nothing");

    succeeds(&weir.cli_with_input(&["apply", "-f", "-"], &documents("v1")));
    assert!(weir.get(&one, "/").await.1.contains("v1"));
    assert_eq!(weir.phase(&two).await, "ready");

    let told = succeeds(&weir.cli_with_input(&["apply", "-f", "-"], &documents("v2")));
    assert!(told.contains(&format!("~ App/{one}")), "{told}");
    assert!(told.contains(&format!("= App/{two}")), "{told}");
    assert!(weir.get(&one, "/").await.1.contains("v2"));
}

#[tokio::test]
async fn check_tells_every_problem_with_its_place_and_needs_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, "kind: App\nname: Shop\nspec:\n  image: a\n  prot: 80\n").unwrap();
    let run = |file: &std::path::Path| {
        Command::new(env!("CARGO_BIN_EXE_weir")).arg("check").arg(file).output().unwrap()
    };
    let told = fails(&run(&file), 1);
    let name = file.display();
    assert!(told.contains(&format!("{name}:2:1: name: `Shop` cannot be an app's name")), "{told}");
    assert!(told.contains(&format!("{name}:5:3: spec.prot: unknown field")), "{told}");
    std::fs::write(&file, "kind: App\nname: shop\nspec:\n  image: a\n").unwrap();
    succeeds(&run(&file));
}

#[tokio::test]
async fn get_shows_apps_instances_and_hosts() {
    let weir = Weir::start().await;
    let app = unique("shown");
    weir.put_ready(&app, spec(json!({}))).await;
    for (what, shown) in [("apps", &*app), ("instances", &format!("{app}-1-0")), ("hosts", "local")]
    {
        let table = succeeds(&weir.cli(&["get", what]));
        assert!(table.contains(shown), "{table}");
        let json: Value =
            serde_json::from_slice(&weir.cli(&["get", what, "-o", "json"]).stdout).unwrap();
        assert_eq!(json["items"][0]["name"], shown, "{json:#}");
    }
}

#[tokio::test]
async fn deploy_takes_another_image_and_fails_with_the_last_words_of_one_that_does_not_run() {
    let weir = Weir::start().await;
    let app = unique("deploy");
    weir.put_ready(&app, spec(json!({}))).await;
    let other = format!("{app}:other");
    support::docker(&["tag", &image(), &other]);
    let broken = format!("{app}:broken");
    support::docker(&["tag", &image(), &broken]);

    succeeds(&weir.cli(&["deploy", &app, "--image", &other]));
    let (_, shown) = weir.api("GET", &format!("/v1/apps/{app}"), None).await;
    assert_eq!(shown["status"]["image"], other);
    assert_eq!(shown["status"]["deployment"], 2);

    let told = fails(&weir.cli(&["deploy", &app, "--image", "localhost:1/no/image"]), 3);
    assert!(told.contains("localhost:1/no/image"), "{told}");
    assert_eq!(weir.get(&app, "/").await.0, 200, "the former deployment serves on");

    let body = json!({"kind": "App", "name": app, "spec": spec(json!({"image": broken, "env": {"EXIT_AT_ONCE": 4}}))});
    weir.api("PUT", &format!("/v1/apps/{app}?wait=30s"), Some(body)).await;
    let told = fails(&weir.cli(&["deploy", &app]), 3);
    assert!(told.contains("code 4") && told.contains("boom: cannot start"), "{told}");
    support::docker(&["rmi", &other, &broken]);
}

#[tokio::test]
async fn logs_show_what_was_written_and_follow_what_comes() {
    let weir = Weir::start().await;
    let app = unique("logs");
    weir.put_ready(&app, spec(json!({}))).await;
    weir.get(&app, "/stdout?text=before").await;
    wait_for("the line in the log", async || {
        text(&weir.cli(&["logs", &app])).contains("before").then_some(())
    })
    .await;

    let mut follow = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["logs", &app, "-f"])
        .env("WEIR_STATE_DIR", &weir.state)
        .env("WEIR_URL", &weir.admin)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("before")));
    weir.get(&app, "/stdout?text=after").await;
    assert!(lines.any(|line| line.contains("after")));
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[tokio::test]
async fn sleep_and_wake_do_as_they_say_and_explain_says_why() {
    let weir = Weir::start().await;
    let app = unique("nap");
    weir.put_ready(&app, spec(json!({}))).await;
    let host = format!("{app}.{}", support::BASE);
    let explained = succeeds(&weir.cli(&["explain", &host]));
    assert!(explained.contains(&format!("answered by {app}-1-0")), "{explained}");

    for (level, state) in [("paused", "paused"), ("stopped", "exited")] {
        succeeds(&weir.cli(&["sleep", &app, "--level", level]));
        assert_eq!(containers(&app).into_values().collect::<Vec<_>>(), [state]);
        let explained = succeeds(&weir.cli(&["explain", &host]));
        assert!(explained.contains(&format!("it is {level}")), "{explained}");
        succeeds(&weir.cli(&["wake", &app]));
        assert_eq!(weir.phase(&app).await, "ready");
    }
    let explained = succeeds(&weir.cli(&["explain", "nobody.example.com"]));
    assert!(explained.contains("404"), "{explained}");
}

#[tokio::test]
async fn an_app_with_a_request_in_flight_is_not_put_to_sleep() {
    let weir = Weir::start().await;
    let app = unique("held");
    weir.put_ready(&app, spec(json!({}))).await;
    let mut socket = support::websocket::WebSocket::open(&weir, &app).await;
    let told = fails(&weir.cli(&["sleep", &app]), 2);
    assert!(told.contains("in flight"), "{told}");
    assert_eq!(socket.echo("still here").await, "still here");
}

#[tokio::test]
async fn delete_returns_when_the_containers_are_gone() {
    let weir = Weir::start().await;
    let app = unique("gone");
    weir.put_ready(&app, spec(json!({}))).await;
    succeeds(&weir.cli(&["delete", &app]));
    assert!(containers(&app).is_empty());
    fails(&weir.cli(&["delete", &app]), 2);
}

#[test]
fn without_a_server_the_error_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["get", "apps", "--url", "http://127.0.0.1:1", "--token", "x"])
        .env("WEIR_STATE_DIR", dir.path())
        .output()
        .unwrap();
    let told = fails(&output, 2);
    assert!(told.contains("http://127.0.0.1:1") && told.contains("weir serve"), "{told}");
}

#[test]
fn every_command_has_help_with_an_example_and_completions_exist() {
    let weir = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(args).output().unwrap();
        succeeds(&output)
    };
    for command in
        ["serve", "apply", "get", "deploy", "logs", "sleep", "wake", "delete", "check", "explain"]
    {
        let help = weir(&[command, "--help"]);
        assert!(help.contains(&format!("weir {command}")), "{help}");
        assert!(help.contains("xample"), "{command} --help shows no example: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(weir(&["completions", shell]).contains("explain"));
    }
    let usage = Command::new(env!("CARGO_BIN_EXE_weir")).arg("fly").output().unwrap();
    fails(&usage, 1);
}
