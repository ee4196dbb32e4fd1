//! The admin API as a program sees it.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Weir, spec, unique};

#[tokio::test]
async fn the_description_of_the_api_is_true() {
    let weir = Weir::start().await;
    let (_, document) = weir.api("GET", "/openapi.json", None).await;
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 9, "{:?}", paths.keys());
    for (path, operations) in paths {
        let path = path.replace("{name}", "nobody").replace("{hostname}", "nobody.example.com");
        for (method, operation) in operations.as_object().unwrap() {
            // A stream without an end is not asked for: the query is refused instead.
            let streams = &operation["responses"]["200"]["content"]["text/event-stream"];
            let path = if streams.is_null() { path.clone() } else { format!("{path}?x=y") };
            let (status, answer) = weir.api(&method.to_uppercase(), &path, None).await;
            assert_ne!(status, 405, "{method} {path}");
            // A path that does not exist says so; an app that does not exist is named.
            let detail = answer["detail"].as_str().unwrap_or_default();
            assert!(!detail.contains("nothing at this path"), "{method} {path}: {answer}");
        }
    }
    let (status, problem) = weir.api("GET", "/v1/nothing", None).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    let (status, problem) = weir.api("GET", "/v1/apps/x?wiat=1s", None).await;
    assert_eq!((status, &problem["code"]), (400, &json!("bad_query")), "{problem:#}");
    let (status, problem) = weir.api("PATCH", "/v1/apps", None).await;
    assert_eq!((status, &problem["code"]), (405, &json!("method_not_allowed")));
}

#[tokio::test]
async fn a_write_is_answered_when_it_is_served_and_an_old_revision_is_refused() {
    let weir = Weir::start().await;
    let app = unique("etag");
    let first = weir.put_ready(&app, spec(json!({}))).await;
    assert_eq!(
        (&first["generation"], &first["status"]["observed_generation"]),
        (&json!(1), &json!(1))
    );
    let ready = condition(&first, "Ready");
    assert_eq!((&ready["status"], &ready["observed_generation"]), (&json!("true"), &json!(1)));

    let put = async |revision: &Value, hostname: &str| {
        let body =
            json!({"kind": "App", "name": app, "spec": spec(json!({"hostnames": [hostname]}))});
        let url = format!("{}/v1/apps/{app}", weir.admin);
        let token = std::fs::read_to_string(weir.state.join("admin.token")).unwrap();
        let request = reqwest::Client::new().put(url).bearer_auth(token).json(&body);
        let answer = request.header("if-match", format!("\"{revision}\"")).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, second) = put(&first["revision"], "one.example.test").await;
    assert_eq!((status, &second["generation"]), (200, &json!(2)), "{second:#}");
    // No wait was asked for, and yet the next request meets it. The certificate is another name's:
    // the local authority covers the base domain only.
    let client = weir.client_builder().resolve("one.example.test", weir.https);
    let client = client.tls_danger_accept_invalid_certs(true).build().unwrap();
    let url = format!("https://one.example.test:{}/", weir.https.port());
    assert_eq!(client.get(url).send().await.unwrap().status(), 200);
    let (_, explained) = weir.api("GET", "/v1/hostnames/one.example.test/explain", None).await;
    assert!(explained["answer"].as_str().unwrap().starts_with("answered by"), "{explained:#}");

    let (status, problem) = put(&first["revision"], "two.example.test").await;
    assert_eq!((status, &problem["code"]), (412, &json!("conflict")), "{problem:#}");
}

fn condition<'a>(app: &'a Value, kind: &str) -> &'a Value {
    let conditions = app["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap()
}
