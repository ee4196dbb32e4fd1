//! Which certificate a client is shown.

use std::sync::Arc;

use weir_config::Certificate;

use crate::harness::{Ca, World, certificates};

/// The certificate shown for a name, as PEM without line breaks.
async fn shown(world: &World, server_name: &str) -> Vec<u8> {
    let raw = world.raw(server_name).await;
    let (_, session) = raw.0.get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

fn der(certificate: &Certificate) -> Vec<u8> {
    certificate.chain[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_has_its_own_certificate_and_the_exact_one_wins() {
    let ca = Ca::new();
    let wildcard = ca.issue(&["*.wild.test"]);
    let exact = ca.issue(&["one.wild.test"]);
    let other = ca.issue(&["other.test"]);
    let all = certificates([wildcard.clone(), exact.clone(), other.clone()]);
    let world = World::start_with(ca, all);
    assert_eq!(shown(&world, "any.wild.test").await, der(&wildcard));
    assert_eq!(shown(&world, "one.wild.test").await, der(&exact));
    assert_eq!(shown(&world, "other.test").await, der(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_swapped_under_live_connections() {
    let ca = Ca::new();
    let (old, new) = (ca.issue(&["*.apps.test"]), ca.issue(&["*.apps.test"]));
    let mut world = World::start_with(ca, certificates([old.clone()]));
    let client = world.h2();
    assert_eq!(client.get(world.url("nobody", "/")).send().await.unwrap().status(), 404);
    assert_eq!(shown(&world, "a.apps.test").await, der(&old));

    world.control.publish(|snapshot| snapshot.certificates = certificates([new.clone()]));
    assert_eq!(shown(&world, "a.apps.test").await, der(&new), "at once");
    // The connection that was made with the old one lives on.
    assert_eq!(client.get(world.url("nobody", "/")).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_read_takes_no_other_down() {
    let ca = Ca::new();
    let good = ca.issue(&["good.test", "bad.test", "mixed.test"]);
    let garbage = Certificate {
        names: ["bad.test".parse().unwrap()].into(),
        chain: [b"x".as_slice().into()].into(),
        ..good.clone()
    };
    let foreign_key =
        Certificate { key: ca.issue(&["other.test"]).key, ..ca.issue(&["mixed.test"]) };
    let mut all = (*certificates([good.clone(), garbage.clone(), foreign_key.clone()])).clone();
    for bad in [garbage, foreign_key].map(Arc::new) {
        all.insert(&bad.names[0], bad.clone());
    }
    let world = World::start_with(ca, Arc::new(all));
    for name in ["good.test", "bad.test", "mixed.test"] {
        assert_eq!(shown(&world, name).await, der(&good), "{name}");
    }
}
