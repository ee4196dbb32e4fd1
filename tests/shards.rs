//! Servers that something else keeps running, behind one name: upstreams of an app, and members of
//! shards. No engine is asked for any of it.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde_json::{Value, json};
use support::{BASE, Weir, upstream::Upstream, wait_for};

async fn start() -> Weir {
    Weir::start_with(&["--docker", "/nonexistent/docker.sock"]).await
}

async fn members<const N: usize>(names: [&str; N]) -> [Upstream; N] {
    let started = futures::future::join_all(names.map(Upstream::named)).await;
    started.try_into().unwrap_or_else(|_| panic!("as many as names"))
}

/// A check often enough for tests.
fn health() -> Value {
    json!({"type": "http", "path": "/healthz", "interval": "100ms", "fall": 1})
}

fn upstreams(members: &[Upstream], fields: &Value) -> Value {
    let addresses: Vec<_> = members.iter().map(|member| member.address.to_string()).collect();
    let mut spec = json!({"upstreams": addresses, "health": health(), "http": "serve"});
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

async fn put_shard(weir: &Weir, name: &str, members: &[&Upstream]) -> Value {
    let member = |member: &&Upstream| json!({"name": member.name, "address": member.address});
    let members: Vec<_> = members.iter().map(member).collect();
    // Requests come one by one, but the last one may not be over when the next one comes.
    let balance = json!({"hash": "host", "max_load": 100});
    let spec = json!({"members": members, "health": health(), "balance": balance});
    let body = json!({"kind": "Shard", "name": name, "spec": spec});
    let path = format!("/v1/shards/{name}?wait=60s");
    let (status, shard) = weir.api("PUT", &path, Some(body)).await;
    assert!(status == 200 || status == 201, "{status}: {shard:#}");
    shard
}

/// A client of the plain HTTP port, whatever the host.
struct Web {
    client: reqwest::Client,
    http: SocketAddr,
}

impl Web {
    fn of(weir: &Weir) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self { client: client.no_proxy().build().unwrap(), http: weir.http }
    }

    /// GETs a path of a host; the status and the text.
    async fn get(&self, host: &str, path: &str) -> (u16, String) {
        let request = self.client.get(format!("http://{}{path}", self.http));
        let answer = request.header("host", host).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// Who answers each of many subdomains.
async fn owners(web: &Web) -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    for i in 0..60 {
        let host = format!("s{i}.sites.example");
        let (status, name) = web.get(&host, "/").await;
        assert_eq!(status, 200, "{host}: {name}");
        owners.insert(host, name);
    }
    owners
}

#[tokio::test]
async fn upstreams_share_the_load_and_one_that_ends_fails_no_request() {
    let weir = start().await;
    let web = Web::of(&weir);
    let two = members(["one", "other"]).await;
    let app = weir.put_ready("legacy", upstreams(&two, &json!({}))).await;
    let status = &app["status"];
    assert_eq!((&status["ready_instances"], &status["deployment"]), (&json!(2), &Value::Null));
    let host = format!("legacy.{BASE}");
    let mut answers = BTreeMap::<String, usize>::new();
    for _ in 0..100 {
        let (status, name) = web.get(&host, "/").await;
        assert_eq!(status, 200);
        *answers.entry(name).or_default() += 1;
    }
    assert!(answers["one"] >= 20 && answers["other"] >= 20, "{answers:?}");

    let clients = (0..8).map(async |_| {
        for round in 0..100 {
            if round == 20 {
                two[0].end();
            }
            let (status, page) = web.get(&host, "/").await;
            assert_eq!(status, 200, "round {round}: {page}\n{}", weir.log());
        }
    });
    futures::future::join_all(clients).await;
    weir.wait_for_phase("legacy", "degraded").await;
    assert_eq!(web.get(&host, "/").await, (200, "other".to_owned()));
    let (_, app) = weir.api("GET", "/v1/apps/legacy", None).await;
    let gone = &app["status"]["upstreams"][0];
    assert_eq!(gone["state"], "unhealthy", "{gone:#}");
    assert!(gone["message"].as_str().unwrap().contains(&two[0].address.to_string()), "{gone:#}");

    two[1].end();
    weir.wait_for_phase("legacy", "failed").await;
    let (status, page) = web.get(&host, "/").await;
    assert!(status == 503 && page.contains("cannot be served"), "{page}");
    let (_, why) = weir.api("GET", &format!("/v1/hostnames/{host}/explain"), None).await;
    assert!(why.to_string().contains("no upstream passes its health check"), "{why:#}");
}

#[tokio::test]
async fn an_upstream_that_fails_its_check_gets_no_requests_until_it_passes() {
    let weir = start().await;
    let web = Web::of(&weir);
    let two = members(["one", "other"]).await;
    weir.put_ready("legacy", upstreams(&two, &json!({}))).await;
    two[0].set_healthy(false);
    weir.wait_for_phase("legacy", "degraded").await;
    let host = format!("legacy.{BASE}");
    for _ in 0..20 {
        assert_eq!(web.get(&host, "/").await, (200, "other".to_owned()));
    }
    two[0].set_healthy(true);
    weir.wait_for_phase("legacy", "ready").await;
    wait_for("the upstream to answer again", async || {
        (web.get(&host, "/").await.1 == "one").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_subdomain_stays_on_its_member_and_only_those_of_a_removed_one_move() {
    let weir = start().await;
    let web = Web::of(&weir);
    let [a, b, c] = members(["a", "b", "c"]).await;
    let [d, e] = members(["d", "e"]).await;
    put_shard(&weir, "east", &[&a, &b, &c]).await;
    let west = put_shard(&weir, "west", &[&d, &e]).await;
    assert_eq!(west["status"]["phase"], "ready", "{west:#}");
    let spec =
        json!({"shards": ["east", "west"], "hostnames": ["*.sites.example"], "http": "serve"});
    weir.put_ready("sites", spec).await;

    let before = owners(&web).await;
    let used: BTreeSet<_> = before.values().map(String::as_str).collect();
    assert_eq!(used, ["a", "b", "c", "d", "e"].into(), "{before:?}");
    assert_eq!(owners(&web).await, before, "each stays where it is");
    for (host, owner) in before.iter().take(5) {
        let (_, told) = weir.api("GET", &format!("/v1/hostnames/{host}/explain"), None).await;
        let shard = if "abc".contains(owner) { "east" } else { "west" };
        let expected = format!("answered by shard/{shard}/{owner}, by the host name");
        assert_eq!(told["answer"], expected, "{told:#}");
    }

    put_shard(&weir, "east", &[&a, &c]).await;
    let after = owners(&web).await;
    for (host, owner) in &before {
        match owner.as_str() {
            "b" => assert!(["a", "c"].contains(&&*after[host]), "{host}: {}", after[host]),
            stays => assert_eq!(after[host], stays, "{host}"),
        }
    }
    put_shard(&weir, "east", &[&a, &b, &c]).await;
    assert_eq!(owners(&web).await, before, "and back with it");
}

#[tokio::test]
async fn two_apps_share_a_host_name_by_path() {
    let weir = start().await;
    let web = Web::of(&weir);
    let both = members(["site", "shop"]).await;
    let host = format!("www.{BASE}");
    weir.put_ready("site", upstreams(&both[..1], &json!({"hostnames": [host]}))).await;
    let below = format!("{host}/shop");
    weir.put_ready("shop", upstreams(&both[1..], &json!({"hostnames": [below]}))).await;
    for (path, answerer) in
        [("/", "site"), ("/shop", "shop"), ("/shop/cart?id=1", "shop"), ("/shopping", "site")]
    {
        assert_eq!(web.get(&host, path).await, (200, answerer.to_owned()), "{path}");
    }
    let body = json!({"kind": "App", "name": "third",
        "spec": {"upstreams": ["127.0.0.1:1"], "hostnames": [below]}});
    let (status, problem) = weir.api("POST", "/v1/apps", Some(body)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("hostname_taken")), "{problem:#}");
    let told = weir.cli(&["explain", &format!("{below}/cart")]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("below a path: app shop"), "{told}");
}

#[tokio::test]
async fn plain_http_is_redirected_unless_the_app_is_served_there() {
    let weir = start().await;
    let web = Web::of(&weir);
    let members = members(["one"]).await;
    weir.put_ready("plain", upstreams(&members, &json!({}))).await;
    weir.put_ready("secure", upstreams(&members, &json!({"http": "redirect"}))).await;
    assert_eq!(web.get(&format!("plain.{BASE}"), "/").await.0, 200);
    assert_eq!(web.get(&format!("secure.{BASE}"), "/").await.0, 308);
    assert_eq!(weir.get("plain", "/").await, (200, "one".to_owned()), "and by HTTPS");
}

#[tokio::test]
async fn after_a_kill_upstreams_and_shards_serve_at_once() {
    let weir = start().await;
    let both = members(["one", "two"]).await;
    put_shard(&weir, "east", &[&both[1]]).await;
    weir.put_ready("sites", json!({"shards": ["east"], "http": "serve"})).await;
    weir.put_ready("legacy", upstreams(&both[..1], &json!({}))).await;
    wait_for("the snapshot on disk", async || {
        let file = std::fs::read_to_string(weir.state.join("last-good.json")).ok()?;
        (file.contains("Serving") && file.contains("east")).then_some(())
    })
    .await;
    let weir = weir.kill_and_restart().await;
    let web = Web::of(&weir);
    for (app, name) in [("legacy", "one"), ("sites", "two")] {
        assert_eq!(web.get(&format!("{app}.{BASE}"), "/").await, (200, name.to_owned()));
        weir.wait_for_phase(app, "ready").await;
    }
}

#[tokio::test]
async fn the_command_line_applies_shows_explains_and_deletes_shards() {
    let weir = start().await;
    let [one, two] = members(["one", "two"]).await;
    let run = |args: &[&str], code: i32| {
        let output = weir.cli(args);
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        told
    };
    let documents = format!(
        "kind: App\nname: sites\nspec: {{shards: [east]}}\n---\nkind: Shard\nname: east\nspec:\n  \
         members:\n    - {{name: a, address: \"{}\"}}\n    - {{name: b, address: \"{}\"}}\n",
        one.address, two.address
    );
    let file = weir.dir.path().join("sites.yaml");
    std::fs::write(&file, documents).unwrap();
    let file = file.to_str().unwrap();
    assert!(run(&["check", file], 0).contains("2 objects, no problems"));
    let told = run(&["apply", "-f", file], 0);
    for line in ["+ Shard/east  create  2 members", "+ App/sites  create  shard east"] {
        assert!(told.contains(line), "the shard although it comes second: {told}");
    }
    assert!(told.contains("Shard/east  ready in"), "{told}");
    assert!(run(&["apply", "-f", file], 0).contains("= Shard/east  unchanged"));

    assert!(run(&["get", "shards"], 0).contains("east  ready  2/2"));
    let shown = run(&["get", "shards", "east"], 0);
    assert!(shown.contains(&two.address.to_string()), "{shown}");
    let explained = run(&["explain", &format!("sites.{BASE}")], 0);
    for text in ["shard: east", "member: a is ready", "member: b is ready"] {
        assert!(explained.contains(text), "{explained}");
    }
    let refused = run(&["delete", "shard", "east"], 2);
    assert!(refused.contains("used by the app `sites`"), "{refused}");
    run(&["delete", "sites"], 0);
    run(&["delete", "shard", "east"], 0);
    assert!(run(&["get", "shards", "east"], 2).contains("there is no shard `east`"));

    let body = json!({"kind": "App", "name": "sites", "spec": {"shards": ["east"]}});
    let (status, problem) = weir.api("PUT", "/v1/apps/sites", Some(body)).await;
    let error = &problem["errors"][0];
    assert_eq!((status, &error["pointer"]), (422, &json!("/spec/shards/0")), "{problem:#}");
    assert_eq!(error["message"], "there is no shard `east`; apply it first");
}
