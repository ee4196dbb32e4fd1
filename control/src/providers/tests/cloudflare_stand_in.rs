//! A stand-in for Cloudflare's API v4: the calls that the adapter makes, with what the documentation
//! says of them (<https://developers.cloudflare.com/api>), and faults on demand. It is not
//! Cloudflare.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub(super) const TOKEN: &str = "a-token";

/// One account with some zones.
pub(super) struct CloudflareStandIn {
    pub(super) url: String,
    account: Shared,
    _server: AbortOnDropHandle<()>,
}

type Shared = Arc<Mutex<Account>>;

#[derive(Default)]
struct Account {
    /// Names by id.
    zones: BTreeMap<String, String>,
    records: BTreeMap<String, Value>,
    pools: BTreeMap<String, Value>,
    balancers: BTreeMap<String, Value>,
    purged: Vec<Value>,
    made: u32,
    /// The calls that changed something, as `POST /path`.
    writes: Vec<String>,
    /// What the next calls are answered instead.
    faults: VecDeque<(u16, Option<&'static str>)>,
}

impl CloudflareStandIn {
    pub(super) async fn new(zones: &[&str]) -> Self {
        let account = Shared::default();
        let zone = |(i, name): (usize, &&str)| (format!("zone{i}"), (*name).to_owned());
        account.lock().unwrap().zones = zones.iter().enumerate().map(zone).collect();
        let app = Router::new()
            .route("/user/tokens/verify", get(|| async { result(&json!({"status": "active"})) }))
            .route("/zones", get(list_zones))
            .route("/zones/{zone}/dns_records", get(list_records))
            .route("/zones/{zone}/dns_records/batch", post(batch))
            .route("/zones/{zone}/custom_hostnames", get(custom_hostnames))
            .route("/zones/{zone}/purge_cache", post(purge))
            .route("/accounts/{account}/load_balancers/pools", get(pools).post(make_pool))
            .route("/accounts/{account}/load_balancers/pools/{id}", patch(change_pool))
            .route("/zones/{zone}/load_balancers", get(balancers).post(make_balancer))
            .route("/zones/{zone}/load_balancers/{id}", patch(change_balancer))
            .layer(middleware::from_fn_with_state(account.clone(), at_the_door))
            .with_state(account.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = async move { axum::serve(listener, app).await.unwrap() };
        Self { url, account, _server: AbortOnDropHandle::new(tokio::spawn(serve)) }
    }

    /// The next call is answered by this status, with this `Retry-After`.
    pub(super) fn fail_next(&self, status: u16, retry_after: Option<&'static str>) {
        self.account.lock().unwrap().faults.push_back((status, retry_after));
    }

    /// The calls that changed something since this was asked last.
    pub(super) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.account.lock().unwrap().writes)
    }

    /// `TYPE CONTENT TTL` of the records at a name, with `proxied` if they are.
    pub(super) fn records(&self, name: &str) -> Vec<String> {
        let account = self.account.lock().unwrap();
        let of_name = account.records.values().filter(|record| record["name"] == name);
        let mut records: Vec<_> = of_name
            .map(|record| {
                let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
                let proxied = if record["proxied"] == true { " proxied" } else { "" };
                format!("{} {} {}{proxied}", text("type"), text("content"), record["ttl"])
            })
            .collect();
        records.sort();
        records
    }

    /// Somebody else writes a record.
    pub(super) fn write_record(&self, kind: &str, name: &str, content: &str) {
        let mut account = self.account.lock().unwrap();
        account.add_record(json!({"type": kind, "name": name, "content": content, "ttl": 300}));
    }

    /// Each pool's addresses by its name.
    pub(super) fn pools(&self) -> BTreeMap<String, Vec<String>> {
        let account = self.account.lock().unwrap();
        let address = |origin: &Value| origin["address"].as_str().unwrap_or_default().to_owned();
        let pool = |pool: &Value| {
            let origins = pool["origins"].as_array().unwrap().iter().map(address).collect();
            (pool["name"].as_str().unwrap().to_owned(), origins)
        };
        account.pools.values().map(pool).collect()
    }

    /// Of the load balancer of a name, whether it is enabled, and the weights by the pool's name.
    pub(super) fn weights(&self, name: &str) -> (bool, BTreeMap<String, f64>) {
        let account = self.account.lock().unwrap();
        let balancer = account.balancers.values().find(|balancer| balancer["name"] == name);
        let balancer = balancer.expect("there is no such load balancer");
        assert_eq!(balancer["steering_policy"], "random");
        let weights = balancer["random_steering"]["pool_weights"].as_object().unwrap();
        let serving: Vec<_> = balancer["default_pools"].as_array().unwrap().iter().collect();
        assert!(serving.contains(&&balancer["fallback_pool"]), "it falls back to one of them");
        let of_pool = |(id, weight): (&String, &Value)| {
            assert!(serving.contains(&&json!(id)), "who has a weight is a default pool");
            let name = account.pools[id]["name"].as_str().unwrap().to_owned();
            (name, weight.as_f64().unwrap())
        };
        (balancer["enabled"] == true, weights.iter().map(of_pool).collect())
    }

    pub(super) fn purged(&self) -> Vec<Value> {
        self.account.lock().unwrap().purged.clone()
    }
}

impl Account {
    fn id(&mut self) -> String {
        self.made += 1;
        format!("id{}", self.made)
    }

    fn add_record(&mut self, mut record: Value) {
        let id = self.id();
        record["id"] = json!(id);
        self.records.insert(id, record);
    }

    /// Executes a batch as documented: deletes, patches, puts, posts, in one transaction.
    fn batch(&mut self, batch: &Value) -> Result<(), (u32, &'static str)> {
        let before = self.records.clone();
        let done = self.try_batch(batch);
        if done.is_err() {
            self.records = before;
        }
        done
    }

    fn try_batch(&mut self, batch: &Value) -> Result<(), (u32, &'static str)> {
        let part = |name: &str| batch[name].as_array().cloned().unwrap_or_default();
        for delete in part("deletes") {
            let id = delete["id"].as_str().unwrap_or_default();
            self.records.remove(id).ok_or((81044, "Record does not exist."))?;
        }
        for patch in part("patches") {
            let id = patch["id"].as_str().unwrap_or_default();
            let record = self.records.get_mut(id).ok_or((81044, "Record does not exist."))?;
            merge(record, &patch);
        }
        part("posts").into_iter().for_each(|record| self.add_record(record));
        self.check()
    }

    fn check(&self) -> Result<(), (u32, &'static str)> {
        for record in self.records.values() {
            let is_proxied = record["proxied"] == true;
            match record["ttl"].as_u64() {
                Some(1) if is_proxied => {}
                Some(60..=86_400) if !is_proxied => {}
                _ => return Err((9021, "Invalid TTL. Must be between 60 and 86400 seconds.")),
            }
            let others = self.records.values().filter(|other| other["name"] == record["name"]);
            if record["type"] == "CNAME" && others.count() > 1 {
                return Err((81053, "An A, AAAA, or CNAME record with that host already exists."));
            }
        }
        Ok(())
    }
}

fn merge(into: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().unwrap() {
        into[key] = value.clone();
    }
}

fn result(result: &Value) -> Response {
    let body = json!({"success": true, "errors": [], "messages": [], "result": result});
    Json(body).into_response()
}

fn error(status: StatusCode, code: u32, message: &str) -> Response {
    let errors = json!([{"code": code, "message": message}]);
    let body = json!({"success": false, "errors": errors, "messages": [], "result": null});
    (status, Json(body)).into_response()
}

/// Faults, the token, and the log of what changes something.
async fn at_the_door(State(account): State<Shared>, request: Request, next: Next) -> Response {
    let fault = account.lock().unwrap().faults.pop_front();
    if let Some((status, after)) = fault {
        let mut answer = error(StatusCode::from_u16(status).unwrap(), 10000, "injected");
        if let Some(after) = after {
            answer.headers_mut().insert("retry-after", after.parse().unwrap());
        }
        return answer;
    }
    if !has_token(request.headers()) {
        return error(StatusCode::FORBIDDEN, 9109, "Invalid access token");
    }
    if request.method() != "GET" {
        let what = format!("{} {}", request.method(), request.uri().path());
        account.lock().unwrap().writes.push(what);
    }
    next.run(request).await
}

fn has_token(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| *value == *format!("Bearer {TOKEN}"))
}

type Parameters = Query<BTreeMap<String, String>>;

async fn list_zones(State(account): State<Shared>, Query(query): Parameters) -> Response {
    let account = account.lock().unwrap();
    let asked = account
        .zones
        .iter()
        .filter(|(_, name)| query.get("name").is_none_or(|asked| asked == *name));
    let zone = |(id, name)| json!({"id": id, "name": name, "account": {"id": "acc", "name": "a"}});
    result(&asked.map(zone).collect())
}

async fn list_records(State(account): State<Shared>, Query(query): Parameters) -> Response {
    let account = account.lock().unwrap();
    let name = query.get("name.exact").expect("only ever one name is asked for");
    result(&account.records.values().filter(|record| record["name"] == **name).cloned().collect())
}

async fn batch(State(account): State<Shared>, Json(batch): Json<Value>) -> Response {
    match account.lock().unwrap().batch(&batch) {
        Ok(()) => result(&json!({})),
        Err((81044, message)) => error(StatusCode::NOT_FOUND, 81044, message),
        Err((code, message)) => error(StatusCode::BAD_REQUEST, code, message),
    }
}

async fn custom_hostnames() -> Response {
    result(&json!([
        {"id": "1", "hostname": "shop.customer.example", "status": "active",
         "ssl": {"status": "active", "method": "http", "type": "dv"}},
        {"id": "2", "hostname": "new.customer.example", "status": "pending",
         "ssl": {"status": "pending_validation",
                 "validation_errors": [{"message": "the name does not lead here"}]}},
    ]))
}

async fn purge(State(account): State<Shared>, Json(body): Json<Value>) -> Response {
    account.lock().unwrap().purged.push(body["hosts"].clone());
    result(&json!({"id": "1"}))
}

async fn pools(State(account): State<Shared>) -> Response {
    result(&account.lock().unwrap().pools.values().cloned().collect())
}

async fn balancers(State(account): State<Shared>) -> Response {
    result(&account.lock().unwrap().balancers.values().cloned().collect())
}

async fn make_pool(State(account): State<Shared>, Json(body): Json<Value>) -> Response {
    let mut account = account.lock().unwrap();
    let id = account.id();
    result(&put(&mut account.pools, &id, &body))
}

async fn make_balancer(State(account): State<Shared>, Json(body): Json<Value>) -> Response {
    let mut account = account.lock().unwrap();
    let id = account.id();
    result(&put(&mut account.balancers, &id, &body))
}

async fn change_pool(
    State(account): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let body = serde_json::from_slice(&body).unwrap();
    result(&put(&mut account.lock().unwrap().pools, &id, &body))
}

async fn change_balancer(
    State(account): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let body = serde_json::from_slice(&body).unwrap();
    result(&put(&mut account.lock().unwrap().balancers, &id, &body))
}

/// With what else it gets by itself there.
fn put(all: &mut BTreeMap<String, Value>, id: &str, body: &Value) -> Value {
    let one = all.entry(id.to_owned()).or_insert_with(|| json!({"created_on": "2026-01-01"}));
    merge(one, body);
    one["id"] = json!(id);
    one.clone()
}
