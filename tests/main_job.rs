//! The main job, end to end: a container behind its own HTTPS subdomain, asleep when idle, awake on
//! request.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{BASE, Weir, containers, incarnation, spec, unique, wait_for, websocket::WebSocket};

/// Asleep soon, so that tests need not wait long; the order of things is what they assert.
fn sleepy() -> serde_json::Value {
    json!({"pause_after": "300ms", "stop_after": "2s", "min_awake": "100ms"})
}

#[tokio::test]
async fn an_app_answers_over_https_by_both_versions_of_http() {
    let weir = Weir::start().await;
    let app = unique("both");
    let shown = weir.put_ready(&app, spec(json!({"env": {"NAME": "hello"}}))).await;
    assert_eq!(shown["status"]["ready_instances"], 1);
    for version in [reqwest::Version::HTTP_11, reqwest::Version::HTTP_2] {
        let client = match version {
            reqwest::Version::HTTP_11 => weir.client_builder().http1_only(),
            _ => weir.client_builder(),
        };
        let client = client.build().unwrap();
        let answer = client.get(weir.url(&app, "/")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        assert!(answer.text().await.unwrap().contains("hello"));
    }
}

#[tokio::test]
async fn http_redirects_and_an_unknown_host_gets_a_clear_page() {
    let weir = Weir::start().await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let request = client.build().unwrap().get(format!("http://{}/a?b=c", weir.http));
    let answer = request.header("host", format!("any.{BASE}")).send().await.unwrap();
    assert_eq!(answer.status(), 308);
    let to = format!("https://any.{BASE}:{}/a?b=c", weir.https.port());
    assert_eq!(answer.headers()["location"], to);

    let (status, page) = weir.get("unknown", "/").await;
    assert_eq!(status, 404);
    assert!(page.contains(&format!("unknown.{BASE}")), "{page}");
}

#[tokio::test]
async fn the_app_sees_who_asked_and_not_what_a_stranger_claims() {
    let weir = Weir::start().await;
    let app = unique("echo");
    weir.put_ready(&app, spec(json!({}))).await;
    let request = weir.client().get(weir.url(&app, "/echo")).header("x-forwarded-for", "6.6.6.6");
    let seen = request.send().await.unwrap().text().await.unwrap().to_ascii_lowercase();
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: https"), "{seen}");
    assert!(!seen.contains("6.6.6.6"), "{seen}");
}

#[tokio::test]
async fn an_idle_app_is_paused_then_stopped_and_each_time_the_next_request_is_answered() {
    // Without it, a request may find its app awake, because its handshake came first.
    let weir = Weir::start_set_up(|command, dir| {
        let settings = dir.join("settings.yaml");
        std::fs::write(&settings, "proxy: {speculative_wake: false}").unwrap();
        command.arg("--config").arg(settings);
    })
    .await;
    let app = unique("sleepy");
    weir.put_ready(&app, spec(json!({"sleep": sleepy()}))).await;
    let name = format!("weir-{app}-1-0");

    for (phase, state) in [("paused", "paused"), ("stopped", "exited")] {
        weir.wait_for_phase(&app, phase).await;
        assert_eq!(containers(&app)[&name], state);
        let (status, _) = weir.get(&app, "/").await;
        assert_eq!(status, 200, "after {phase}: {}", weir.log());
        assert_eq!(containers(&app)[&name], "running");
        let count = format!("weir_wake_duration_seconds_count{{app=\"{app}\",from=\"{phase}\"}} 1");
        let metrics = weir.metrics().await;
        assert!(metrics.contains(&count), "{metrics}");
    }
}

#[tokio::test]
async fn a_request_in_flight_and_an_open_websocket_keep_an_app_awake() {
    let weir = Weir::start().await;
    let app = unique("busy");
    weir.put_ready(&app, spec(json!({"sleep": sleepy()}))).await;
    let before = incarnation(&app);

    let mut socket = WebSocket::open(&weir, &app).await;
    let (status, _) = weir.get(&app, "/slow?ms=1500").await;
    assert_eq!(status, 200);
    // Idle but for the socket for several times the idle limit, told by a second app's clock.
    let witness = unique("witness");
    weir.put_ready(&witness, spec(json!({"sleep": sleepy()}))).await;
    weir.wait_for_phase(&witness, "stopped").await;
    assert_eq!(weir.phase(&app).await, "ready");
    assert_eq!(socket.echo("still here?").await, "still here?");
    assert_eq!(incarnation(&app), before);

    drop(socket);
    weir.wait_for_phase(&app, "paused").await;
}

#[tokio::test]
async fn a_thousand_requests_at_once_wake_an_app_with_one_start() {
    let weir = Weir::start().await;
    let app = unique("herd");
    // The web app has a thread for each connection.
    let resources = json!({"pids": 4096});
    weir.put_ready(&app, spec(json!({"resources": resources, "health": {}}))).await;
    // Told to, so that it does not fall asleep again while the last of the herd is on its way.
    let level = json!({"level": "stopped"});
    weir.api("POST", &format!("/v1/apps/{app}/actions/sleep"), Some(level)).await;
    weir.wait_for_phase(&app, "stopped").await;

    let since = support::docker(&["info", "--format", "{{.SystemTime}}"]);
    let client = weir.client();
    let requests = (0..1000).map(|_| client.get(weir.url(&app, "/")).send());
    let answers = futures::future::join_all(requests).await;
    let (good, mut bad): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200));
    if let Some(first) = bad.pop() {
        let page = first.unwrap().text().await.unwrap();
        panic!("{} were answered, but not the others: {page}\n{}", good.len(), weir.log());
    }

    let until = support::docker(&["info", "--format", "{{.SystemTime}}"]);
    let filter = format!("label=weir.app={app}");
    let args = ["events", "--since", &since, "--until", &until, "--filter", &filter];
    let events = support::docker(&[&args[..], &["--filter", "event=start"]].concat());
    assert_eq!(events.lines().count(), 1, "starts as the engine saw them: {events}");
}

#[tokio::test]
async fn more_waiting_requests_than_the_queue_holds_are_told_to_come_back() {
    let weir = Weir::start().await;
    let app = unique("queue");
    let sleep = json!({"pause_after": null, "stop_after": "200ms", "min_awake": "0s", "queue": 1});
    let env = json!({"START_DELAY_MS": "700"});
    weir.put_ready(&app, spec(json!({"sleep": sleep, "env": env}))).await;
    weir.wait_for_phase(&app, "stopped").await;

    let client = weir.client();
    let answers = futures::future::join_all((0..3).map(|_| client.get(weir.url(&app, "/")).send()));
    let answers: Vec<_> = answers.await.into_iter().map(Result::unwrap).collect();
    let count = |status: u16| answers.iter().filter(|a| a.status() == status).count();
    assert_eq!((count(200), count(503)), (1, 2));
    let refused = answers.iter().find(|answer| answer.status() == 503).unwrap();
    assert!(refused.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn a_new_deployment_takes_over_without_a_failed_request() {
    let weir = Weir::start().await;
    let app = unique("roll");
    weir.put_ready(&app, spec(json!({"env": {"VERSION": "one"}}))).await;
    let client = weir.client();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn({
        let (client, url) = (client.clone(), weir.url(&app, "/"));
        async move {
            let mut versions = Vec::new();
            while !*stopped.borrow() {
                let answer = client.get(&url).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                versions.push(answer.text().await.unwrap());
            }
            versions
        }
    });
    let rollout = json!({"keep": "0s"});
    weir.put_ready(&app, spec(json!({"env": {"VERSION": "two"}, "rollout": rollout}))).await;
    wait_for("the former container to go", async || (containers(&app).len() == 1).then_some(()))
        .await;
    stop.send(true).unwrap();
    let versions = load.await.unwrap();
    assert!(versions.first().unwrap().contains("one"), "the load began before");
    assert!(versions.last().unwrap().contains("two"), "and ended after");
    assert!(containers(&app).contains_key(&format!("weir-{app}-2-0")));
}

#[tokio::test]
async fn a_deleted_app_is_gone_with_its_containers() {
    let weir = Weir::start().await;
    let app = unique("gone");
    weir.put_ready(&app, spec(json!({}))).await;
    let (status, _) = weir.api("DELETE", &format!("/v1/apps/{app}"), None).await;
    assert_eq!(status, 202);
    wait_for("the containers to go", async || containers(&app).is_empty().then_some(())).await;
    assert_eq!(weir.get(&app, "/").await.0, 404);
    let (status, _) = weir.api("GET", &format!("/v1/apps/{app}"), None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn an_unhealthy_instance_takes_no_requests_until_it_is_healthy() {
    let weir = Weir::start().await;
    let app = unique("sick");
    weir.put_ready(&app, spec(json!({}))).await;
    let address = {
        let (_, list) = weir.api("GET", "/v1/instances", None).await;
        list["items"][0]["address"].as_str().unwrap().to_owned()
    };
    let toggle = async || reqwest::get(format!("http://{address}/toggle-health")).await.unwrap();
    toggle().await;
    weir.wait_for_phase(&app, "failed").await;
    let answer = weir.client().get(weir.url(&app, "/")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    toggle().await;
    weir.wait_for_phase(&app, "ready").await;
    assert_eq!(weir.get(&app, "/").await.0, 200);
}

#[tokio::test]
async fn a_crashed_process_is_started_again_and_serves() {
    let weir = Weir::start().await;
    let app = unique("crash");
    weir.put_ready(&app, spec(json!({}))).await;
    // The process ends without an answer.
    let _ = weir.client().get(weir.url(&app, "/crash?code=9")).send().await;
    wait_for("an answer after the crash", async || {
        let answer = weir.client().get(weir.url(&app, "/")).timeout(Duration::from_secs(5));
        (answer.send().await.ok()?.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_that_meets_an_app_on_its_way_to_sleep_is_answered() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let weir = Weir::start().await;
    let app = unique("dozing");
    weir.put_ready(&app, spec(json!({}))).await;
    let client = weir.client();
    for round in 0..8u32 {
        let level = if round % 2 == 0 { "stopped" } else { "paused" };
        let path = format!("/v1/apps/{app}/actions/sleep");
        let (status, answer) = weir.api("POST", &path, Some(json!({"level": level}))).await;
        assert_eq!(status, 202, "{answer:#}");
        // At some moment between the hold and the end of the process.
        let moment = seed.rotate_left(round * 7) % 60;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let answer = client.get(weir.url(&app, "/")).send().await.unwrap();
        let status = answer.status();
        let page = answer.text().await.unwrap();
        assert_eq!(status, 200, "round {round}, {moment} ms after: {page}\n{}", weir.log());
        // The sleep that was asked for is not to come after the request.
        weir.wait_for_phase(&app, "ready").await;
    }
    assert_eq!(containers(&app).into_values().collect::<Vec<_>>(), ["running"]);
}
