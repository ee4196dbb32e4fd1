//! The adapters, beside a stand-in of Cloudflare's API and a webhook.

mod cloudflare_stand_in;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use weir_config::{
    Desired, FailoverPolicy, Moment, ProviderSpec, Shares, Snapshot, Steered, Steering,
    parse_documents,
};

use self::cloudflare_stand_in::{CloudflareStandIn, TOKEN};
use super::{Adapter, Again, AllCarried, Place, Wanted, WantedTarget, carry};
use crate::{
    observed::Observed,
    reconciler::World,
    store::{Cause, Precondition, Store, Verb},
    vault::Vault,
};

fn adapter(spec: Value) -> Adapter {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let spec: ProviderSpec = serde_json::from_value(spec).unwrap();
    Adapter::new(&spec).unwrap()
}

fn cloudflare(api: &CloudflareStandIn, more: &Value) -> Adapter {
    let mut spec = json!({"token": TOKEN, "api": api.url});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    adapter(json!({"cloudflare": spec}))
}

/// A CDN and a region with these shares.
fn wanted(shares: [u16; 2], ttl: u32) -> Wanted {
    let region = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
    let target =
        |name: &str, share, place| WantedTarget { name: name.parse().unwrap(), share, place };
    Wanted {
        policy: "shop".parse().unwrap(),
        epoch: 7,
        hostnames: vec!["www.shop.example".parse().unwrap()],
        targets: vec![
            target("cdn", shares[0], Place::Cname("shop.cdn.example".parse().unwrap())),
            target("region", shares[1], Place::Addresses(region.to_vec())),
        ],
        ttl,
    }
}

const NAME: &str = "www.shop.example";
const REGION: [&str; 2] = ["A 192.0.2.1 60", "AAAA 2001:db8::1 60"];

#[tokio::test]
async fn a_name_leads_to_the_target_with_the_largest_share_whatever_was_there() {
    let api = CloudflareStandIn::new(&["example", "shop.example", "other.example"]).await;
    let adapter = cloudflare(&api, &json!({}));
    api.write_record("A", NAME, "203.0.113.9");
    api.write_record("TXT", "else.shop.example", "mine");
    for (shares, ttl, expected) in [
        ([10_000, 0], 300, &["CNAME shop.cdn.example 300"][..]),
        ([10_000, 0], 5, &["CNAME shop.cdn.example 60"]),
        ([500, 9500], 5, &REGION),
        ([5000, 5000], 5, &["CNAME shop.cdn.example 60"]),
        ([0, 0], 5, &[]),
    ] {
        assert!(adapter.converge("1", &wanted(shares, ttl)).await.unwrap());
        assert_eq!(api.records(NAME), expected, "{shares:?}");
        assert_eq!(api.writes(), ["POST /zones/zone1/dns_records/batch"], "in one transaction");
        // Once more changes nothing.
        assert!(!adapter.converge("2", &wanted(shares, ttl)).await.unwrap());
        assert_eq!(api.writes(), [""; 0]);
    }
    assert_eq!(api.records("else.shop.example"), ["TXT mine 300"], "other names are left alone");
}

#[tokio::test]
async fn what_somebody_else_has_changed_is_put_right() {
    let api = CloudflareStandIn::new(&["shop.example"]).await;
    let adapter = cloudflare(&api, &json!({"proxied": true}));
    let wanted = wanted([0, 10_000], 30);
    adapter.converge("1", &wanted).await.unwrap();
    let expected = ["A 192.0.2.1 1 proxied", "AAAA 2001:db8::1 1 proxied"];
    assert_eq!(api.records(NAME), expected);
    api.write_record("A", NAME, "203.0.113.9");
    assert!(adapter.converge("2", &wanted).await.unwrap());
    assert_eq!(api.records(NAME), expected);
}

#[tokio::test]
async fn a_load_balancer_has_a_pool_for_each_target_and_their_shares_as_weights() {
    let api = CloudflareStandIn::new(&["shop.example"]).await;
    let adapter = cloudflare(&api, &json!({"load_balancer": true}));
    for (shares, is_enabled, weights) in [
        ([10_000, 0], true, &[("weir-shop-cdn", 1.0)][..]),
        ([500, 9500], true, &[("weir-shop-cdn", 0.05), ("weir-shop-region", 0.95)]),
        ([9999, 1], true, &[("weir-shop-cdn", 0.99), ("weir-shop-region", 0.01)]),
        ([0, 0], false, &[]),
    ] {
        assert!(adapter.converge("1", &wanted(shares, 30)).await.unwrap());
        let weights = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        assert_eq!(api.weights(NAME), (is_enabled, weights));
        api.writes();
        assert!(!adapter.converge("2", &wanted(shares, 30)).await.unwrap());
        assert_eq!(api.writes(), [""; 0]);
    }
    let pools = api.pools();
    assert_eq!(pools["weir-shop-cdn"], ["shop.cdn.example"]);
    assert_eq!(pools["weir-shop-region"], ["192.0.2.1", "2001:db8::1"]);
}

#[tokio::test]
async fn what_fails_says_what_to_do_and_when_to_come_again() {
    let api = CloudflareStandIn::new(&["shop.example"]).await;
    let good = cloudflare(&api, &json!({}));
    for (status, after, expected, words) in [
        (429, Some("17"), Again::After(Duration::from_secs(17)), "more seldom"),
        (503, None, Again::Soon, "failed"),
        (409, None, Again::Soon, "by now"),
        (400, None, Again::Changed, "refuses it"),
    ] {
        api.fail_next(status, after);
        let refusal = good.converge("1", &wanted([10_000, 0], 30)).await.unwrap_err();
        assert_eq!(refusal.again, expected, "{status}");
        assert!(refusal.message.contains(words), "{}", refusal.message);
        assert_eq!(api.writes(), [""; 0]);
    }
    let bad = cloudflare(&api, &json!({"token": "another"}));
    let refusal = bad.test().await.unwrap_err();
    assert_eq!(refusal.again, Again::Changed);
    assert!(refusal.message.contains("refuses the token: Invalid access token (9109); make one"));
    assert!(!refusal.message.contains("another"), "{}", refusal.message);

    let mut elsewhere = wanted([10_000, 0], 30);
    elsewhere.hostnames = vec!["www.nowhere.example".parse().unwrap()];
    let refusal = good.converge("1", &elsewhere).await.unwrap_err();
    assert!(refusal.message.contains("no zone that www.nowhere.example is in"));
    let found = good.test().await.unwrap();
    assert_eq!(found, ["the token is active", "it sees shop.example"]);

    let gone = adapter(json!({"cloudflare": {"token": TOKEN, "api": "http://127.0.0.1:1"}}));
    assert_eq!(gone.test().await.unwrap_err().again, Again::Soon);
}

#[tokio::test]
async fn others_names_and_caches_are_asked_of_their_zone() {
    let api = CloudflareStandIn::new(&["shop.example"]).await;
    let adapter = cloudflare(&api, &json!({}));
    let names = adapter.custom_hostnames(&"shop.example".parse().unwrap()).await.unwrap();
    let told: Vec<_> = names.iter().map(|name| (&*name.hostname, &*name.ssl.status)).collect();
    let expected =
        [("shop.customer.example", "active"), ("new.customer.example", "pending_validation")];
    assert_eq!(told, expected);
    assert_eq!(names[1].ssl.validation_errors[0].message, "the name does not lead here");
    adapter.purge(&["www.shop.example".parse().unwrap()]).await.unwrap();
    assert_eq!(api.purged(), [json!(["www.shop.example"])]);
}

#[tokio::test]
async fn a_webhook_is_told_by_signed_messages() {
    let (told, mut received) = mpsc::unbounded_channel();
    let told = Arc::new(told);
    let take = move |headers: HeaderMap, body: Bytes| async move {
        told.send((headers, body)).unwrap();
        axum::http::StatusCode::NO_CONTENT
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().route("/hook", post(take))).into_future());
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let adapter = adapter(json!({"webhook": {"url": url, "secret": secret}}));
    adapter.converge("abc", &wanted([500, 9500], 5)).await.unwrap();

    let (headers, body) = received.recv().await.unwrap();
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("webhook-id"), "msg_abc");
    let signed =
        format!("msg_abc.{}.{}", header("webhook-timestamp"), std::str::from_utf8(&body).unwrap());
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap());
    aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &signature.unwrap()).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "failover.steering");
    let expected = json!({
        "policy": "shop", "epoch": 7, "hostnames": ["www.shop.example"], "ttl": 5,
        "targets": [
            {"name": "cdn", "share": 500, "cname": "shop.cdn.example"},
            {"name": "region", "share": 9500, "addresses": ["192.0.2.1", "2001:db8::1"]},
        ],
    });
    assert_eq!(body["data"], expected);
}

/// What is served by a policy of a CDN and a region, at a provider.
fn world(epoch: u64, shares: [u64; 2]) -> Arc<World> {
    let text = "{kind: FailoverPolicy, name: shop, spec: {hostnames: [www.shop.example],
        provider: there, targets: [{name: cdn, cdn: shop.cdn.example},
          {name: region, addresses: [192.0.2.1, '2001:db8::1']}]}}";
    let value = parse_documents(text).unwrap()[0].value.clone();
    let (_, policy) = FailoverPolicy::read(value).unwrap();
    let (shares, ttl) = (Shares::by_weight(&shares), Duration::from_secs(30));
    let steering = Steering { epoch, shares, ttl };
    let mut served = Snapshot::default();
    served.insert_policy(Arc::new(Steered::new(policy.name.clone(), Vec::new(), steering)));
    let mut desired = Desired::default();
    desired.policies.insert(policy.name.clone(), Arc::new(policy));
    Arc::new(World::new(desired, Observed::new(Arc::new(served), Moment::now())))
}

#[tokio::test]
async fn what_is_served_is_carried_however_often_the_provider_fails() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let api = CloudflareStandIn::new(&["shop.example"]).await;
    let (dir, base) = (tempfile::tempdir().unwrap(), "test.example".parse().unwrap());
    let store = Store::open(&dir.path().join("weir.db"), &base).await.unwrap();
    let vault = Vault::open(dir.path().join("secrets.key"), store).await.unwrap();
    let spec = json!({"cloudflare": {"token": TOKEN, "api": api.url}});
    let spec = serde_json::from_value(spec).unwrap();
    let cause = Cause { actor: "test", verb: Verb::Put, key: None };
    let there = "there".parse().unwrap();
    vault.put_provider(&there, spec, Precondition::None, cause).await.unwrap();

    let (worlds, seen) = watch::channel(world(1, [1, 0]));
    let (told, mut carried) = watch::channel(AllCarried::new());
    api.fail_next(500, None);
    api.fail_next(429, Some("1"));
    let _task = AbortOnDropHandle::new(tokio::spawn(carry(vault, seen, told)));
    let limit = Duration::from_secs(60);
    let shop: weir_config::FailoverName = "shop".parse().unwrap();
    let mut failures = Vec::new();
    for (epoch, shares, expected) in
        [(1, [1, 0], &["CNAME shop.cdn.example 60"][..]), (2, [1, 9], &REGION)]
    {
        worlds.send_replace(world(epoch, shares));
        let is_there = |all: &AllCarried| {
            let carried = all.get(&shop);
            failures.extend(carried.and_then(|carried| carried.error.clone()));
            carried.is_some_and(|carried| carried.epoch == epoch && carried.error.is_none())
        };
        timeout(limit, carried.wait_for(is_there)).await.expect("it is not there").unwrap();
        assert_eq!(api.records(NAME), expected);
    }
    let told = failures.join("; ");
    assert!(told.contains("Cloudflare failed") && told.contains("more seldom"), "{told}");
    // What nobody wants any more is let go of there, and forgotten here.
    let nothing = World::new(Desired::default(), Observed::new(Arc::default(), Moment::now()));
    worlds.send_replace(Arc::new(nothing));
    timeout(limit, carried.wait_for(AllCarried::is_empty)).await.expect("it is told").unwrap();
    assert_eq!(api.records(NAME), REGION, "what was made there stays");
}
