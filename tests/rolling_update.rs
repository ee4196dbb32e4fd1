//! One image for every app on a shard's hosts, some at a time.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Weir, docker, image, unique, wait_for};

/// An image of its own, of the tests' app with a variable.
fn make_image(tag: &str, variable: &str) {
    let made = docker(&["create", &image()]);
    docker(&["commit", "--change", &format!("ENV {variable}"), &made, tag]);
    docker(&["rm", &made]);
}

/// Apps on a shard of this machine, each with the image.
async fn put_apps(weir: &Weir, shard: &str, apps: &[String], image: &str) {
    for (kind, name, spec) in [
        ("hosts", "local", json!({"labels": {"cell": shard}})),
        ("shards", shard, json!({"hosts": {"cell": shard}})),
    ] {
        let written = json!({"kind": if kind == "hosts" { "Host" } else { "Shard" },
            "name": name, "spec": spec});
        let (status, answer) = weir.api("PUT", &format!("/v1/{kind}/{name}"), Some(written)).await;
        assert!(status < 300, "{answer:#}");
    }
    for app in apps {
        let spec = json!({"image": image, "placement": {"shard": shard},
            "health": {"type": "http", "path": "/healthz", "interval": "200ms"}});
        weir.put_ready(app, spec).await;
    }
}

async fn version(weir: &Weir, app: &str) -> String {
    weir.get(app, "/").await.1
}

async fn operation(weir: &Weir, id: &str) -> Value {
    let (status, found) = weir.api("GET", &format!("/v1/operations/{id}"), None).await;
    assert_eq!(status, 200, "{found:#}");
    found
}

/// How many of its apps are in a state.
fn count(operation: &Value, state: &str) -> usize {
    let apps = operation["apps"].as_array().unwrap().iter();
    apps.filter(|app| app["state"] == state).count()
}

#[tokio::test]
async fn a_rolling_update_takes_its_apps_in_turn_and_goes_on_after_a_crash() {
    let weir = Weir::start().await;
    let shard = unique("cell");
    let [one, two] = ["one", "two"].map(|version| format!("{shard}:{version}"));
    make_image(&one, "VERSION=one");
    make_image(&two, "VERSION=two START_DELAY_MS=300");
    let apps: Vec<_> = (0..4).map(|n| unique(&format!("cell{n}"))).collect();
    put_apps(&weir, &shard, &apps, &one).await;

    let body = json!({"image": two, "parallel": 2});
    let path = format!("/v1/shards/{shard}/actions/deploy");
    let (status, begun) = weir.api("POST", &path, Some(body)).await;
    assert_eq!((status, &begun["verb"]), (202, &json!("rolling-update")), "{begun:#}");
    let id = begun["id"].as_str().unwrap();
    wait_for("some of them to be done", async || {
        let found = operation(&weir, id).await;
        assert!(count(&found, "running") <= 2, "{found:#}");
        (count(&found, "done") >= 1).then_some(())
    })
    .await;
    let before = operation(&weir, id).await;
    assert_eq!(before["state"], "running", "{before:#}");
    let weir = weir.kill_and_restart().await;
    let done = wait_for("the rest", async || {
        let found = operation(&weir, id).await;
        assert!(count(&found, "running") <= 2, "{found:#}");
        (found["state"] != "running").then_some(found)
    });
    let done = done.await;
    assert_eq!((&done["state"], count(&done, "done")), (&json!("succeeded"), 4), "{done:#}");
    assert_eq!(done["message"], "4 of 4 apps are updated");
    for app in &apps {
        assert!(version(&weir, app).await.contains("version two"));
        let (_, list) = weir.api("GET", &format!("/v1/apps/{app}/deployments"), None).await;
        assert_eq!(list["items"].as_array().unwrap().len(), 2, "each is deployed once: {list:#}");
    }
    // Nothing is left to be done.
    let told = weir.cli(&["shard", "deploy", &shard, "--image", &two]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success() && text.contains("4 of 4 apps are updated"), "{text}");
    for app in &apps {
        let (_, shown) = weir.api("GET", &format!("/v1/apps/{app}"), None).await;
        assert_eq!(shown["status"]["deployment"], 2, "it has the image already");
    }
    docker(&["rmi", "--force", &one, &two]);
}

#[tokio::test]
async fn a_rolling_update_stops_at_the_first_failure_and_is_taken_up_again() {
    let weir = Weir::start().await;
    let shard = unique("fails");
    let [one, two] = ["one", "two"].map(|version| format!("{shard}:{version}"));
    make_image(&one, "VERSION=one");
    make_image(&two, "VERSION=two EXIT_AT_ONCE=4");
    let mut apps: Vec<_> = (0..3).map(|n| unique(&format!("fails{n}"))).collect();
    apps.sort();
    put_apps(&weir, &shard, &apps, &one).await;
    let deploy = |more: &[&str], code: i32| {
        let told = weir.cli(&[&["shard", "deploy", &shard, "--image", &two], more].concat());
        let text = String::from_utf8([told.stdout, told.stderr].concat()).unwrap();
        assert_eq!(told.status.code(), Some(code), "{text}");
        text
    };

    let told = deploy(&[], 3);
    let first = format!("App/{}  deployment 2 failed: ", apps[0]);
    assert!(told.contains(&first) && told.contains("code 4"), "{told}");
    assert!(told.contains("0 of 3 apps are updated, 1 failed"), "{told}");
    for app in &apps {
        assert!(version(&weir, app).await.contains("version one"));
    }
    for app in &apps[1..] {
        assert!(!told.contains(app.as_str()), "no other was begun: {told}");
    }
    // Two of three may fail, and the third one does.
    let told = deploy(&["--max-failed", "67"], 3);
    assert!(told.contains("0 of 3 apps are updated, 3 failed"), "{told}");

    make_image(&two, "VERSION=two");
    let told = deploy(&["--parallel", "3"], 0);
    assert!(told.contains("3 of 3 apps are updated"), "{told}");
    for app in &apps {
        assert!(version(&weir, app).await.contains("version two"));
    }

    // What is called off begins no other.
    make_image(&one, "VERSION=one START_DELAY_MS=2000");
    let body = json!({"image": one});
    let path = format!("/v1/shards/{shard}/actions/deploy");
    let (_, begun) = weir.api("POST", &path, Some(body)).await;
    let id = begun["id"].as_str().unwrap();
    wait_for("the first to begin", async || {
        (count(&operation(&weir, id).await, "running") == 1).then_some(())
    })
    .await;
    let told = weir.cli(&["operation", "cancel", id]);
    assert!(told.status.success(), "{told:?}");
    assert_eq!(weir.cli(&["operation", "cancel", id]).status.code(), Some(2), "it is over");
    wait_for("what it has begun to end", async || {
        version(&weir, &apps[0]).await.contains("version one").then_some(())
    })
    .await;
    let called_off = operation(&weir, id).await;
    assert_eq!((&called_off["state"], count(&called_off, "waiting")), (&json!("cancelled"), 2));
    docker(&["rmi", "--force", &one, &two]);
}
