//! Requests with the same key go to the same endpoint.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_config::{Backends, Balance, Pool, RouteState};

use crate::{
    harness::World,
    upstreams::{Echo, Refusing},
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// An app that hashes this of a request, on five endpoints; one of them may refuse connections.
async fn hashing(hash: &str, refuses: Option<&Refusing>) -> World {
    let mut world = World::start();
    let mut endpoints = Vec::new();
    for (i, name) in NAMES.into_iter().enumerate() {
        let address = match refuses {
            Some(refusing) if i == 0 => refusing.address(),
            _ => Echo::start(name).await.address,
        };
        endpoints.push(world.endpoint("blog", i as u16, address));
    }
    let balance = Balance { hash: Some(hash.parse().unwrap()), ..Balance::default() };
    let pool = Backends::Own(Pool::new(endpoints, balance).into());
    world.serve("blog", RouteState::Serving(pool));
    world
}

/// Which endpoint answers a request with this path and header.
async fn answering(world: &World, path: &str, header: (&str, &str)) -> String {
    let request = world.h1().get(world.url("blog", path)).header(header.0, header.1);
    let echoed: Value = request.send().await.unwrap().json().await.unwrap();
    echoed["name"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_s_requests_go_to_one_endpoint_and_keys_are_shared() {
    for (hash, keyed) in [
        ("path", (|key: usize| (format!("/{key}"), ("x", String::new()))) as fn(usize) -> _),
        ("header:x-user", |key| ("/".into(), ("X-User", format!("user-{key}")))),
        ("cookie:session", |key| ("/".into(), ("cookie", format!("a=b; session={key}")))),
    ] {
        let world = hashing(hash, None).await;
        let mut owners = BTreeMap::new();
        for round in 0..3 {
            for key in 0..20 {
                let (path, (name, value)) = keyed(key);
                let owner = answering(&world, &path, (name, &value)).await;
                let former = owners.insert(key, owner.clone());
                assert!(round == 0 || former == Some(owner), "{hash} {key}");
            }
        }
        let used: BTreeSet<_> = owners.values().collect();
        assert!(used.len() >= 3, "{hash}: 20 keys on {used:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_client_s_or_a_host_s_requests_go_to_one_endpoint() {
    for hash in ["ip", "host"] {
        let world = hashing(hash, None).await;
        let mut owners = BTreeSet::new();
        for i in 0..20 {
            owners.insert(answering(&world, &format!("/{i}"), ("x", "y")).await);
        }
        assert_eq!(owners.len(), 1, "{hash}: {owners:?}");
    }
    // Without what is hashed, any will do.
    let world = hashing("cookie:session", None).await;
    let mut owners = BTreeSet::new();
    for _ in 0..40 {
        owners.insert(answering(&world, "/", ("cookie", "other=1")).await);
    }
    assert!(owners.len() > 2, "{owners:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_an_endpoint_that_refuses_go_to_others_and_no_others_move() {
    let whole = hashing("header:x-user", None).await;
    let refusing = Refusing::start();
    let broken = hashing("header:x-user", Some(&refusing)).await;
    let mut moved = 0;
    for key in 0..40 {
        let user = format!("user-{key}");
        let before = answering(&whole, "/", ("x-user", &user)).await;
        let after = answering(&broken, "/", ("x-user", &user)).await;
        assert_ne!(after, "a");
        assert!(before == "a" || before == after, "{user} moved from {before} to {after}");
        moved += usize::from(before == "a");
    }
    assert!(moved > 0, "the one that refuses had keys");
}
