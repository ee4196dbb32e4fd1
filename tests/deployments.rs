//! Deployments from wanted to live, and every way out, with the real program and the real engine.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Weir, containers, docker, image, incarnation, spec, unique, wait_for};

async fn deployment(weir: &Weir, app: &str, number: u64) -> Value {
    let path = format!("/v1/apps/{app}/deployments/{number}");
    let (status, deployment) = weir.api("GET", &path, None).await;
    assert_eq!(status, 200, "{deployment:#}");
    deployment
}

async fn wait_for_state(weir: &Weir, app: &str, number: u64, state: &str) -> Value {
    wait_for(&format!("deployment {number} of {app} to be {state}"), async || {
        let found = deployment(weir, app, number).await;
        (found["state"] == state).then_some(found)
    })
    .await
}

/// Asks for something, and gives the operation that it is.
async fn ask(weir: &Weir, method: &str, path: &str, body: &Value) -> String {
    let answer = weir.request(method, path).json(body).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    answer.headers()["weir-operation"].to_str().unwrap().to_owned()
}

async fn settled(weir: &Weir, operation: &str) -> Value {
    wait_for(&format!("{operation} to be settled"), async || {
        let path = format!("/v1/operations/{operation}?wait=30s");
        let (_, found) = weir.api("GET", &path, None).await;
        (found["state"] != "running").then_some(found)
    })
    .await
}

/// Of an app that says `version` and rolls out like this.
fn version(version: &str, rollout: &Value) -> Value {
    spec(json!({"env": {"VERSION": version}, "rollout": rollout}))
}

#[tokio::test]
async fn a_deployment_that_does_not_run_fails_fast_with_its_last_words_and_the_former_one_serves() {
    let weir = Weir::start().await;
    let app = unique("fails");
    weir.put_ready(&app, version("one", &json!({}))).await;
    let before = incarnation(&app);
    let began = Instant::now();
    let broken = spec(json!({"env": {"EXIT_AT_ONCE": 4}}));
    let shown = weir.put(&app, broken.clone()).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(shown["status"]["phase"], "degraded", "{shown:#}");
    assert_eq!(shown["status"]["live_deployment"], 1);
    let failed = deployment(&weir, &app, 2).await;
    assert_eq!(failed["state"], "failed", "{failed:#}");
    assert_eq!(failed["ending"]["reason"], "InstanceExited");
    assert_eq!(failed["ending"]["exit_code"], 4);
    let last_word = failed["ending"]["log_tail"][0].as_str().unwrap();
    assert!(last_word.starts_with("boom: cannot start"), "{last_word}");
    wait_for("its container to go", async || (containers(&app).len() == 1).then_some(())).await;
    assert_eq!(incarnation(&app), before, "the former one was not touched");
    assert!(weir.get(&app, "/").await.1.contains("version one"));

    // Written again as it is, it is not tried again; asked for, it is.
    weir.put(&app, broken).await;
    let told = weir.cli(&["redeploy", &app]);
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(told.status.code(), Some(3), "{text}");
    assert!(text.contains("exit code 4") && text.contains("boom: cannot start"), "{text}");
    assert_eq!(deployment(&weir, &app, 3).await["state"], "failed");
}

#[tokio::test]
async fn a_rollback_takes_no_second_and_no_image() {
    let weir = Weir::start().await;
    let app = unique("back");
    let (one, two) = (format!("{app}:one"), format!("{app}:two"));
    // Images of their own, so that they can be taken away.
    for (tag, version) in [(&one, "one"), (&two, "two")] {
        let made = docker(&["create", "--env", &format!("VERSION={version}"), &image()]);
        docker(&["commit", "--change", &format!("ENV VERSION={version}"), &made, tag]);
        docker(&["rm", &made]);
    }
    weir.put_ready(&app, spec(json!({"image": one}))).await;
    weir.put_ready(&app, spec(json!({"image": two}))).await;
    wait_for_state(&weir, &app, 2, "live").await;
    let kept = format!("weir-{app}-1-0");
    wait_for("the former one to be paused", async || {
        (containers(&app)[&kept] == "paused").then_some(())
    })
    .await;
    docker(&["rmi", "--force", &one]);

    let began = Instant::now();
    let rollback = format!("/v1/apps/{app}/actions/rollback");
    let operation = ask(&weir, "POST", &rollback, &json!({})).await;
    wait_for("the former version to answer", async || {
        weir.get(&app, "/").await.1.contains("version one").then_some(())
    })
    .await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}\n{}", weir.log());
    println!("rolled back in {took:?}");
    wait_for_state(&weir, &app, 1, "live").await;
    let former = wait_for_state(&weir, &app, 2, "rolled-back").await;
    assert_eq!(former["ending"]["reason"], "AskedFor", "{former:#}");
    let operation = settled(&weir, &operation).await;
    assert_eq!(
        (&operation["verb"], &operation["deployment"], &operation["state"]),
        (&json!("rollback"), &json!(1), &json!("succeeded")),
        "{operation:#}"
    );

    // The status says that it is not the spec's, and the spec written again does not undo it.
    let shown = weir.put_ready(&app, spec(json!({"image": two}))).await;
    assert_eq!(shown["status"]["live_deployment"], 1, "{shown:#}");
    let conditions = shown["status"]["conditions"].as_array().unwrap();
    let up_to_date = conditions.iter().find(|c| c["type"] == "UpToDate").unwrap();
    assert_eq!(
        (&up_to_date["status"], &up_to_date["reason"]),
        (&json!("false"), &json!("AnotherIsLive"))
    );
    let told = weir.cli(&["rollback", &app, "--to", "2"]);
    assert!(told.status.success(), "{told:?}");
    assert!(weir.get(&app, "/").await.1.contains("version two"));
    let told = weir.cli(&["rollback", &app, "--to", "9"]);
    assert_eq!(told.status.code(), Some(2), "{told:?}");

    // One that comes to nothing has failed, though the app is as well as before.
    wait_for_state(&weir, &app, 1, "rolled-back").await;
    docker(&["rm", "--force", &kept]);
    let operation = settled(&weir, &ask(&weir, "POST", &rollback, &json!({"to": 1})).await).await;
    assert_eq!(operation["state"], "failed", "{operation:#}");
    assert!(weir.get(&app, "/").await.1.contains("version two"));
    docker(&["rmi", "--force", &two]);
}

#[tokio::test]
async fn a_canary_has_its_share_and_is_rolled_back_when_it_fails() {
    let weir = Weir::start().await;
    let app = unique("canary");
    let rollout = json!({
        "strategy": "canary", "steps": [25], "step_for": "60s", "max_error_rate": 0.1,
    });
    weir.put_ready(&app, version("one", &rollout)).await;
    let body = json!({"kind": "App", "name": app, "spec": version("two", &rollout)});
    weir.api("PUT", &format!("/v1/apps/{app}"), Some(body)).await;
    wait_for_state(&weir, &app, 2, "shifting").await;
    let client = weir.client();
    let mut new = 0;
    for _ in 0..100 {
        let answer = client.get(weir.url(&app, "/")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        new += usize::from(answer.text().await.unwrap().contains("version two"));
    }
    // Four standard deviations around 25.
    assert!((8..=42).contains(&new), "{new} of 100");

    // Every answer of the new one fails from now on; the former one's do not.
    let address = {
        let (_, list) = weir.api("GET", "/v1/instances", None).await;
        let items = list["items"].as_array().unwrap().clone();
        let new = items.into_iter().find(|i| i["name"] == format!("{app}-2-0")).unwrap();
        new["address"].as_str().unwrap().to_owned()
    };
    reqwest::get(format!("http://{address}/fail-all")).await.unwrap();
    let ended = wait_for("the canary to be rolled back", async || {
        client.get(weir.url(&app, "/")).send().await.unwrap();
        let found = deployment(&weir, &app, 2).await;
        (found["state"] == "rolled-back").then_some(found)
    });
    let ended = ended.await;
    assert_eq!(ended["ending"]["reason"], "ErrorRateTooHigh", "{ended:#}");
    wait_for("the former one to have it all", async || {
        let (_, shown) = weir.api("GET", &format!("/v1/apps/{app}"), None).await;
        (shown["status"]["deployment"] == 1).then_some(())
    })
    .await;
    for _ in 0..20 {
        let (status, text) = weir.get(&app, "/").await;
        assert!(status == 200 && text.contains("version one"), "{status} {text}");
    }
    assert_eq!(weir.phase(&app).await, "degraded");
}

#[tokio::test]
async fn one_that_answers_nobody_but_its_health_check_is_rolled_back_by_the_public_route() {
    let weir = Weir::start().await;
    let app = unique("public");
    let tcp = json!({"type": "tcp"});
    weir.put_ready(&app, spec(json!({"env": {"VERSION": "one"}, "health": tcp}))).await;
    let bad = spec(json!({"env": {"FAIL_ALL": "1"}, "health": tcp}));
    let shown = weir.put(&app, bad).await;
    assert_eq!(shown["status"]["phase"], "degraded", "{shown:#}");
    let ended = deployment(&weir, &app, 2).await;
    assert_eq!(ended["state"], "rolled-back", "{ended:#}");
    assert_eq!(ended["ending"]["reason"], "PublicCheckFailed", "{ended:#}");
    assert!(weir.get(&app, "/").await.1.contains("version one"));
}

#[tokio::test]
async fn one_that_is_called_off_leaves_the_former_one_and_nothing_else() {
    let weir = Weir::start().await;
    let app = unique("cancel");
    weir.put_ready(&app, version("one", &json!({}))).await;
    let (status, problem) = weir.api("POST", &format!("/v1/apps/{app}/actions/cancel"), None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("refused")), "{problem:#}");
    let slow = spec(json!({"env": {"FAIL_HEALTH": "1"}}));
    let body = json!({"kind": "App", "name": app, "spec": slow});
    let put = ask(&weir, "PUT", &format!("/v1/apps/{app}"), &body).await;
    wait_for_state(&weir, &app, 2, "verifying").await;
    let told = weir.cli(&["cancel", &app]);
    assert!(told.status.success(), "{told:?}");
    assert_eq!(deployment(&weir, &app, 2).await["state"], "cancelled");
    assert_eq!(settled(&weir, &put).await["state"], "cancelled");
    wait_for("its container to go", async || (containers(&app).len() == 1).then_some(())).await;
    assert!(weir.get(&app, "/").await.1.contains("version one"));
    assert_eq!(weir.phase(&app).await, "ready");
}

#[tokio::test]
async fn a_rolling_one_goes_on_after_a_kill_in_the_middle() {
    let weir = Weir::start().await;
    let app = unique("rolling");
    let of = |version: &str| {
        let rollout = json!({"strategy": "rolling"});
        let env = json!({"VERSION": version, "START_DELAY_MS": "400"});
        spec(json!({"env": env, "instances": 3, "rollout": rollout}))
    };
    weir.put_ready(&app, of("one")).await;
    let body = json!({"kind": "App", "name": app, "spec": of("two")});
    weir.api("PUT", &format!("/v1/apps/{app}"), Some(body)).await;
    wait_for_state(&weir, &app, 2, "shifting").await;
    let weir = weir.kill_and_restart().await;
    let client = weir.client();
    let mut versions = Vec::new();
    wait_for("the new one to be live", async || {
        let answer = client.get(weir.url(&app, "/")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", weir.log());
        versions.push(answer.text().await.unwrap());
        (deployment(&weir, &app, 2).await["state"] == "live").then_some(())
    })
    .await;
    let of_two = versions.iter().filter(|text| text.contains("version two")).count();
    assert!(0 < of_two && of_two < versions.len(), "both answered: {of_two} of {}", versions.len());
    assert!(weir.get(&app, "/").await.1.contains("version two"));
    assert_eq!(deployment(&weir, &app, 1).await["state"], "superseded");
    wait_for("the former ones to be paused", async || {
        let paused = containers(&app).into_values().filter(|state| state == "paused").count();
        (paused == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_promoted_is_exactly_what_the_other_app_runs() {
    let weir = Weir::start().await;
    let (staging, shop) = (unique("staging"), unique("shop"));
    let tag = format!("{staging}:latest");
    docker(&["tag", &image(), &tag]);
    weir.put_ready(&staging, spec(json!({"image": tag}))).await;
    weir.put_ready(&shop, spec(json!({}))).await;
    // What the tag means by now is not what runs.
    docker(&["rmi", &tag]);
    let told = weir.cli(&["promote", &shop, "--from", &staging]);
    assert!(told.status.success(), "{told:?}");
    let made_from = |app: &str, number: u64| {
        docker(&["inspect", "--format", "{{.Image}}", &format!("weir-{app}-{number}-0")])
    };
    assert_eq!(made_from(&shop, 2), made_from(&staging, 1));
    let promoted = deployment(&weir, &shop, 2).await;
    assert_eq!(promoted["cause"], "promote");
    let listed = weir.cli(&["deployments", &shop]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("promote") && text.contains("superseded"), "{text}");
}

#[tokio::test]
async fn one_that_turns_bad_while_it_bakes_is_taken_back_by_itself() {
    let weir = Weir::start().await;
    let app = unique("bake");
    let rollout = json!({"bake": "60s", "keep": "60s", "max_error_rate": 0.1});
    weir.put_ready(&app, version("one", &rollout)).await;
    weir.put_ready(&app, version("two", &rollout)).await;
    wait_for_state(&weir, &app, 2, "live").await;
    let client = weir.client();
    for _ in 0..30 {
        let answer = client.get(weir.url(&app, "/")).send().await.unwrap();
        assert!(answer.text().await.unwrap().contains("version two"));
    }
    assert_eq!(deployment(&weir, &app, 2).await["state"], "live", "while it is well it stays");
    weir.get(&app, "/fail-all").await;
    let ended = wait_for("it to be taken back", async || {
        client.get(weir.url(&app, "/")).send().await.unwrap();
        let found = deployment(&weir, &app, 2).await;
        (found["state"] == "rolled-back").then_some(found)
    });
    let ended = ended.await;
    assert_eq!(ended["ending"]["reason"], "ErrorRateTooHigh", "{ended:#}");
    wait_for_state(&weir, &app, 1, "live").await;
    let (status, text) = weir.get(&app, "/").await;
    assert!(status == 200 && text.contains("version one"), "{status} {text}");
    assert_eq!(weir.phase(&app).await, "degraded", "it is not the deployment of the spec");
}

#[tokio::test]
async fn a_canary_that_is_slow_is_taken_back_and_one_that_is_not_goes_on() {
    let weir = Weir::start().await;
    let app = unique("latency");
    let rollout = json!({
        "strategy": "canary", "steps": [50], "step_for": "60s", "max_latency": "250ms",
    });
    weir.put_ready(&app, version("one", &rollout)).await;
    let body = json!({"kind": "App", "name": app, "spec": version("two", &rollout)});
    weir.api("PUT", &format!("/v1/apps/{app}"), Some(body)).await;
    wait_for_state(&weir, &app, 2, "shifting").await;
    let client = weir.client();
    let get = async |path: &str| {
        let answer = client.get(weir.url(&app, path)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    for _ in 0..40 {
        get("/").await;
    }
    // Its answers are looked at once a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(deployment(&weir, &app, 2).await["state"], "shifting", "while it is quick it stays");
    let ended = wait_for("the canary to be taken back", async || {
        get("/slow?ms=400").await;
        let found = deployment(&weir, &app, 2).await;
        (found["state"] == "rolled-back").then_some(found)
    });
    let ended = ended.await;
    assert_eq!(ended["ending"]["reason"], "LatencyTooHigh", "{ended:#}");
    assert!(weir.get(&app, "/").await.1.contains("version one"));
}

#[tokio::test]
async fn an_apply_says_beforehand_how_it_would_be_rolled_out() {
    let weir = Weir::start().await;
    let app = unique("preview");
    weir.put_ready(&app, version("one", &json!({}))).await;
    let preview = |fields: Value| {
        let written = json!({"kind": "App", "name": app, "spec": fields}).to_string();
        let told = weir.cli_with_input(&["apply", "--dry-run", "-f", "-"], &written);
        let text = String::from_utf8([told.stdout, told.stderr].concat()).unwrap();
        assert!(told.status.success(), "{text}");
        text
    };
    let rolling = version("two", &json!({"strategy": "rolling"}));
    let told = preview(rolling);
    assert!(told.contains("env.VERSION changed") && told.contains("rollout: rolling"), "{told}");
    let mut same = version("one", &json!({}));
    same["hostnames"] = json!([format!("{app}.example.com")]);
    let told = preview(same);
    assert!(told.contains("~ App/") && !told.contains("rollout:"), "no new containers: {told}");
    let volume = json!({"env": {"VERSION": "one"}, "volumes": [format!("{app}:/data")]});
    weir.put_ready(&app, spec(volume.clone())).await;
    let mut next = volume;
    next["env"]["VERSION"] = json!("two");
    let told = preview(spec(next));
    let why = format!("stop-first, because both write to the volume `{app}`");
    assert!(told.contains(&why), "{told}");
    assert!(weir.get(&app, "/").await.1.contains("version one"), "nothing has changed");
    assert_eq!(deployment(&weir, &app, 2).await["state"], "live");
}
