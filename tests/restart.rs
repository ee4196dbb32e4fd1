//! `kill -9`, then start again: same apps, same containers, and traffic at once.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use serde_json::json;
use support::{Weir, containers, incarnation, spec, unique};

#[tokio::test]
async fn after_a_kill_the_same_containers_serve_again() {
    let weir = Weir::start().await;
    let (awake, asleep) = (unique("awake"), unique("asleep"));
    weir.put_ready(&awake, spec(json!({}))).await;
    let sleep = json!({"pause_after": "200ms", "stop_after": null, "min_awake": "0s"});
    weir.put_ready(&asleep, spec(json!({"sleep": sleep}))).await;
    weir.wait_for_phase(&asleep, "paused").await;
    let before = (incarnation(&awake), incarnation(&asleep));

    let weir = weir.kill_and_restart().await;
    assert_eq!(weir.get(&awake, "/").await.0, 200);
    weir.ready().await;
    assert_eq!(weir.phase(&awake).await, "ready");
    assert_eq!(weir.phase(&asleep).await, "paused", "{}", weir.log());
    assert_eq!(weir.get(&asleep, "/").await.0, 200);
    assert_eq!((incarnation(&awake), incarnation(&asleep)), before);
}

#[tokio::test]
async fn traffic_is_served_from_the_last_snapshot_with_no_engine_to_ask() {
    let weir = Weir::start().await;
    let app = unique("alone");
    weir.put_ready(&app, spec(json!({}))).await;
    // What is served is kept on disk within a second.
    support::wait_for("the snapshot on disk", async || {
        let file = weir.state.join("last-good.json");
        fs::read_to_string(file).ok()?.contains("Serving").then_some(())
    })
    .await;
    let mut weir = weir;
    weir.kill();
    let alone = Weir::restart_with(weir, &["--docker", "/nonexistent/docker.sock"]).await;
    let (status, page) = alone.get(&app, "/").await;
    assert_eq!(status, 200, "{page}\n{}", alone.log());
    let (status, problem) = alone.api("GET", "/readyz", None).await;
    assert_eq!(status, 503);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("/nonexistent/docker.sock"), "{detail}");
    assert_eq!(alone.get(&app, "/").await.0, 200, "and still, now that the engine is known away");
}

/// Kills at many moments of an app's life; whatever the moment, the restart ends with one
/// container that serves.
#[tokio::test]
async fn whenever_it_is_killed_nothing_is_orphaned_or_made_twice() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut weir = Weir::start().await;
    let app = unique("moments");
    weir.adopt(&app);
    for round in 0..6u64 {
        let rollout = json!({"keep": "0s"});
        let spec = spec(json!({"env": {"VERSION": format!("{round}")}, "rollout": rollout}));
        let body = json!({"kind": "App", "name": app, "spec": spec});
        let (status, answer) = weir.api("PUT", &format!("/v1/apps/{app}"), Some(body)).await;
        assert!(status == 200 || status == 201, "{answer}");
        // Somewhere between the first action and the last.
        let moment = (seed.rotate_left(round as u32 * 9) % 400) + 1;
        tokio::time::sleep(std::time::Duration::from_millis(moment)).await;
        weir = weir.kill_and_restart().await;
        weir.ready().await;
        // So many deaths just after the app was first served look as if they came of it.
        let confirmed = weir.api("POST", "/v1/snapshot/actions/confirm", None).await;
        assert_eq!(confirmed.0, 202, "{confirmed:?}");
        weir.wait_for_phase(&app, "ready").await;
        let name = format!("weir-{app}-{}-0", round + 1);
        support::wait_for("one container", async || {
            let found = containers(&app);
            (found.len() == 1 && found.get(&name)? == "running").then_some(())
        })
        .await;
        let (status, text) = weir.get(&app, "/").await;
        assert!(status == 200 && text.contains(&round.to_string()), "{status} {text}");
    }
}

/// The database of some days ago, and the containers of today.
#[tokio::test]
async fn restored_from_an_old_backup_it_goes_back_to_what_that_says_and_fails_no_request() {
    let app = unique("backup");
    let version = |version: &str| {
        spec(json!({"env": {"VERSION": version, "WARM_UP_MS": "300"}, "rollout": {"bake": "0s"}}))
    };
    let database = |weir: &Weir| ["weir.db", "weir.db-wal"].map(|name| weir.state.join(name));
    let mut weir = Weir::start().await;
    weir.put_ready(&app, version("one")).await;
    weir.kill();
    let backup = database(&weir).map(|file| (fs::read(&file).unwrap(), file));
    weir.restart().await;
    weir.ready().await;
    // The former ones are kept for a rollback, under names that are given out once more.
    weir.put_ready(&app, version("two")).await;
    weir.put_ready(&app, version("three")).await;
    support::wait_for("version three on disk", async || {
        let file = weir.state.join("last-good.json");
        let saved = fs::read_to_string(file).ok()?;
        saved.contains(r#""deployment":3"#).then_some(())
    })
    .await;
    weir.kill();
    backup.iter().for_each(|(content, file)| fs::write(file, content).unwrap());
    weir.restart().await;
    support::wait_for("version one to serve", async || {
        let (status, text) = weir.get(&app, "/").await;
        assert_eq!(status, 200, "{text}\n{}", weir.log());
        text.contains("version one,").then_some(())
    })
    .await;
    let only = |number: u64| {
        let (app, name) = (app.clone(), format!("weir-{app}-{number}-0"));
        async move {
            support::wait_for(&format!("{name} and no other to run"), async || {
                let mut found = containers(&app);
                found.retain(|_, state| state != "paused");
                (found.len() == 1 && found.get(&name)? == "running").then_some(())
            })
            .await;
        }
    };
    only(1).await;
    // It has a number that another one had.
    weir.put_ready(&app, version("four")).await;
    let (status, text) = weir.get(&app, "/").await;
    assert!(status == 200 && text.contains("version four,"), "{status}: {text}");
    only(2).await;
}

#[tokio::test]
async fn asked_to_stop_it_finishes_the_requests_in_flight_and_leaves_the_containers() {
    let weir = Weir::start().await;
    let app = unique("stop");
    weir.put_ready(&app, spec(json!({}))).await;
    let before = incarnation(&app);
    let request = tokio::spawn({
        let request = weir.client().get(weir.url(&app, "/slow?ms=1500"));
        async move { request.send().await.unwrap().status() }
    });
    support::wait_for("the request to be in flight", async || {
        let (_, shown) = weir.api("GET", &format!("/v1/apps/{app}"), None).await;
        (shown["status"]["requests_in_flight"] == 1).then_some(())
    })
    .await;
    let mut weir = weir;
    assert!(weir.terminate().success(), "{}", weir.log());
    assert_eq!(request.await.unwrap(), 200);
    assert_eq!(incarnation(&app), before);
}

#[tokio::test]
async fn an_app_deleted_just_before_a_kill_leaves_nothing_behind() {
    let weir = Weir::start().await;
    let app = unique("ghost");
    weir.put_ready(&app, spec(json!({}))).await;
    weir.api("POST", &format!("/v1/apps/{app}/actions/sleep?wait=10s"), None).await;
    support::wait_for("the sleep on disk", async || {
        let file = weir.state.join("last-good.json");
        fs::read_to_string(file).ok()?.contains("Asleep").then_some(())
    })
    .await;
    weir.api("DELETE", &format!("/v1/apps/{app}"), None).await;
    // What is on disk still has it.
    let weir = weir.kill_and_restart().await;
    weir.ready().await;
    let shown = weir.put_ready(&app, spec(json!({}))).await;
    assert_eq!(shown["status"]["phase"], "ready", "{shown:#}");
}
