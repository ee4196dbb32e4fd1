//! Which certificate a client is shown.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use weir_config::{Certificate, Hostname};

use crate::{
    clients,
    harness::{Ca, DEADLINE, World},
};

/// The certificate shown for a name, as PEM without line breaks.
async fn shown(world: &World, server_name: &str) -> Vec<u8> {
    let raw = world.raw(server_name).await;
    let (_, session) = raw.0.get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

fn der(certificate: &Certificate) -> Vec<u8> {
    clients::der(&certificate.chain_pem).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_has_its_own_certificate_and_the_exact_one_wins() {
    let ca = Ca::new();
    let wildcard = ca.issue(&["*.wild.test"]);
    let exact = ca.issue(&["one.wild.test"]);
    let other = ca.issue(&["other.test"]);
    let certificates = [wildcard.clone(), exact.clone(), other.clone()].into();
    let world = World::start_with(ca, certificates);
    assert_eq!(shown(&world, "any.wild.test").await, der(&wildcard));
    assert_eq!(shown(&world, "one.wild.test").await, der(&exact));
    assert_eq!(shown(&world, "other.test").await, der(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_swapped_under_live_connections() {
    let ca = Ca::new();
    let (old, new) = (ca.issue(&["*.apps.test"]), ca.issue(&["*.apps.test"]));
    let mut world = World::start_with(ca, [old.clone()].into());
    let client = world.h2();
    assert_eq!(client.get(world.url("nobody", "/")).send().await.unwrap().status(), 404);
    assert_eq!(shown(&world, "a.apps.test").await, der(&old));

    world.control.publish(|snapshot| snapshot.certificates = [new.clone()].into());
    let swapped = async {
        while shown(&world, "a.apps.test").await != der(&new) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, swapped).await.expect("the new certificate was never shown");
    // The connection that was made with the old one lives on.
    assert_eq!(client.get(world.url("nobody", "/")).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_read_takes_no_other_down() {
    let ca = Ca::new();
    let good = ca.issue(&["good.test", "bad.test", "mixed.test"]);
    let names: Vec<Hostname> = vec!["bad.test".parse().unwrap()];
    let garbage = Certificate { names: names.clone(), chain_pem: "x".into(), key_pem: "y".into() };
    let foreign_key = Certificate {
        names: vec!["mixed.test".parse().unwrap()],
        key_pem: ca.issue(&["other.test"]).key_pem,
        ..ca.issue(&["mixed.test"])
    };
    let certificates = [garbage, foreign_key, good.clone()].into();
    let world = World::start_with(ca, certificates);
    for name in ["good.test", "bad.test", "mixed.test"] {
        assert_eq!(shown(&world, name).await, der(&good), "{name}");
    }
}
