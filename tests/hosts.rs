//! Apps on several machines, each with a real Docker Engine in a network of its own.

#![allow(clippy::unwrap_used)] // Also in what the tests share, a panic is a failed test.

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use support::{Weir, image, spec, unique, wait_for};
use tokio::task::JoinSet;
use weir_test_host::{Host, Reach};

/// Adds hosts, and waits until their engines answer.
async fn add(weir: &Weir, hosts: &[Host], fields: &Value) {
    for host in hosts {
        put_host(weir, host, fields);
    }
    for host in hosts {
        wait_for_state(weir, &host.name, "ready").await;
    }
}

fn put_host(weir: &Weir, host: &Host, fields: &Value) {
    let mut spec = host.spec(fields);
    spec["region"] = json!("test");
    let written = json!({"kind": "Host", "name": host.name, "spec": spec}).to_string();
    // What is JSON is YAML.
    let applied = weir.cli_with_input(&["apply", "-f", "-"], &written);
    let told = String::from_utf8([applied.stdout, applied.stderr].concat()).unwrap();
    assert!(applied.status.success(), "{told}");
    assert!(told.contains(&format!("+ Host/{}  create  engine ", host.name)), "{told}");
}

async fn state(weir: &Weir, host: &str) -> String {
    let (_, host) = weir.api("GET", &format!("/v1/hosts/{host}"), None).await;
    host["status"]["state"].as_str().unwrap_or("none").to_owned()
}

async fn wait_for_state(weir: &Weir, host: &str, wanted: &str) {
    wait_for(&format!("{host} to be {wanted}\n{}", weir.log()), async || {
        (state(weir, host).await == wanted).then_some(())
    })
    .await;
}

/// The hosts that have an instance of an app which is ready.
async fn hosts_of(weir: &Weir, app: &str) -> BTreeSet<String> {
    let (_, list) = weir.api("GET", "/v1/instances", None).await;
    let items = list["items"].as_array().unwrap().iter();
    items
        .filter(|item| item["app"] == app && item["state"] == "ready")
        .map(|item| item["host"].as_str().unwrap().to_owned())
        .collect()
}

/// A spec of the tests' app on the hosts of the tests.
fn placed(fields: Value) -> Value {
    let mut spec = spec(fields);
    spec["placement"] = json!({"region": "test"});
    spec
}

fn run(weir: &Weir, args: &[&str], code: i32) -> String {
    let output = weir.cli(args);
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {told}\n{}", weir.log());
    told
}

/// Requests from several clients without a pause, until it is asked what came of them.
struct Requests {
    clients: JoinSet<Vec<String>>,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Requests {
    fn start(weir: &Weir, app: &str) -> Self {
        let mut this = Self {
            clients: JoinSet::new(),
            sent: Arc::default(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        for _ in 0..4 {
            let client = weir.client_builder().timeout(Duration::from_secs(10)).build().unwrap();
            let (sent, stop, url) = (this.sent.clone(), this.stop.clone(), weir.url(app, "/"));
            this.clients.spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Relaxed) {
                    let answer = client.post(&url).body("x").send().await;
                    match answer.and_then(reqwest::Response::error_for_status) {
                        Ok(answer) => drop(answer.text().await),
                        Err(error) => failures.push(format!("{error:?}")),
                    }
                    sent.fetch_add(1, Relaxed);
                }
                failures
            });
        }
        this
    }

    async fn go_on(&self, more: usize) {
        let until = self.sent.load(Relaxed) + more;
        wait_for("requests", async || (self.sent.load(Relaxed) >= until).then_some(())).await;
    }

    /// How many there were, and those that failed.
    async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Relaxed);
        let failures = self.clients.join_all().await.into_iter().flatten().collect();
        (self.sent.load(Relaxed), failures)
    }
}

#[tokio::test]
async fn an_app_is_spread_over_hosts_by_tls_and_ssh_and_a_drain_fails_no_request() {
    let hosts = Host::start_all([("a", Reach::Tls), ("b", Reach::Ssh)], &image());
    let weir = Weir::start().await;
    weir.ready().await;
    add(&weir, &hosts, &json!({})).await;
    let app = unique("spread");
    weir.put_ready(&app, placed(json!({"instances": 2}))).await;
    let both: BTreeSet<_> = ["a", "b"].map(str::to_owned).into();
    assert_eq!(hosts_of(&weir, &app).await, both);
    assert_eq!(hosts.each_ref().map(|host| host.running().len()), [1, 1]);
    let shown = run(&weir, &["get", "hosts"], 0);
    assert!(shown.contains("local") && shown.contains("test"), "{shown}");
    let mut greetings = BTreeSet::new();
    for _ in 0..40 {
        let (status, page) = weir.get(&app, "/stdout?text=here").await;
        assert_eq!(status, 200, "{page}");
        greetings.insert(weir.get(&app, "/").await.1);
    }
    assert_eq!(greetings.len(), 2, "both answer: {greetings:?}");
    let logs = run(&weir, &["logs", &app], 0);
    assert!(both.iter().all(|host| logs.contains(&format!("@{host}"))), "of both hosts: {logs}");

    assert!(run(&weir, &["host", "cordon", "local"], 0).contains("cordoned; it keeps 0 instances"));
    assert!(run(&weir, &["host", "uncordon", "local"], 0).contains("takes instances"));
    assert!(run(&weir, &["delete", "host", "local"], 2).contains("stays"));
    let refused = run(&weir, &["delete", "host", "a"], 2);
    assert!(refused.contains("weir host drain a"), "{refused}");
    let requests = Requests::start(&weir, &app);
    requests.go_on(100).await;
    let told = run(&weir, &["host", "drain", "a"], 0);
    assert!(told.contains("Host/a  drained in"), "{told}");
    requests.go_on(100).await;
    let (sent, failures) = requests.stop().await;
    assert!(failures.is_empty(), "{} of {sent}: {:#?}", failures.len(), &failures[0]);
    assert_eq!(hosts.each_ref().map(|host| host.running().len()), [0, 2]);

    // The same requests notice instances that are just taken away.
    let requests = Requests::start(&weir, &app);
    requests.go_on(100).await;
    for id in hosts[1].running() {
        hosts[1].docker(&["kill", &id]);
    }
    requests.go_on(100).await;
    assert!(!requests.stop().await.1.is_empty(), "the negative control");

    run(&weir, &["delete", "host", "a"], 0);
    wait_for("the host to be gone", async || (state(&weir, "a").await == "none").then_some(()))
        .await;
    weir.api("DELETE", &format!("/v1/apps/{app}"), None).await;
}

#[tokio::test]
async fn a_host_that_is_cut_off_is_replaced_when_it_is_lost_and_comes_back_without_duplicates() {
    let hosts = Host::start_all([("c", Reach::Tcp), ("d", Reach::Tcp)], &image());
    let weir = Weir::start().await;
    weir.ready().await;
    add(&weir, &hosts, &json!({"disconnect": {"after": "2s", "lost_after": "7s"}})).await;
    let app = unique("cutoff");
    weir.put_ready(&app, placed(json!({"instances": 2}))).await;
    let [cut, kept] = &hosts;
    let before = cut.running();

    // Back before it is lost: nothing has happened.
    cut.cut_off();
    wait_for_state(&weir, "c", "disconnected").await;
    let (status, page) = weir.get(&app, "/").await;
    assert_eq!(status, 200, "the other one serves: {page}");
    assert_eq!(kept.running().len(), 1, "nothing is replaced yet");
    cut.connect();
    wait_for_state(&weir, "c", "ready").await;
    weir.wait_for_phase(&app, "ready").await;
    assert_eq!((cut.running(), kept.running().len()), (before, 1));

    cut.cut_off();
    wait_for_state(&weir, "c", "lost").await;
    wait_for("the replacement", async || (kept.running().len() == 2).then_some(())).await;
    weir.wait_for_phase(&app, "ready").await;
    assert_eq!(cut.running().len(), 1, "it knows nothing of it");
    let survivors = kept.running();
    cut.connect();
    wait_for("the duplicate to go", async || cut.running().is_empty().then_some(())).await;
    wait_for_state(&weir, "c", "ready").await;
    assert_eq!(kept.running(), survivors, "nothing that served was ended");
    assert_eq!(weir.get(&app, "/").await.0, 200);

    // What was begun is carried on by who comes after a crash.
    run(&weir, &["host", "converge", "--no-wait"], 0);
    let weir = weir.kill_and_restart().await;
    let done = wait_for("it to be done", async || {
        let (_, list) = weir.api("GET", "/v1/operations?kind=Cluster", None).await;
        let converge = list["items"][0].clone();
        (converge["state"] != "running").then_some(converge)
    });
    let done = done.await;
    assert_eq!((&done["verb"], &done["state"]), (&json!("converge"), &json!("succeeded")));
    assert_eq!(hosts.each_ref().map(|host| host.running().len()), [1, 1]);
    let told = run(&weir, &["host", "converge"], 0);
    assert!(told.contains("0 instances moved"), "{told}");

    // An engine that hangs holds up no other: what is made meanwhile is made elsewhere.
    kept.hang();
    wait_for_state(&weir, "d", "suspect").await;
    let other = unique("meanwhile");
    weir.put_ready(&other, placed(json!({}))).await;
    assert_eq!(hosts_of(&weir, &other).await, ["c".to_owned()].into());
    kept.go_on();
    wait_for_state(&weir, "d", "ready").await;
}
