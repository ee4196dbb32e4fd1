//! Invitations, and who became a device by one.

use std::collections::BTreeMap;

use weir_deploy::About;

use super::*;
use crate::{
    store::{Claim, Invite, NoClaim},
    time::unix_millis,
};

fn host(text: &str) -> HostName {
    text.parse().unwrap()
}

impl Bench {
    /// Invites a device by the hash of a secret.
    async fn invite(&self, hash: &str, name: Option<&str>) -> Result<(), StoreError> {
        let name = name.map(|name| name.parse().unwrap());
        let expires_at = unix_millis() + 3_600_000;
        self.store.invite(hash, &Invite { name, labels: BTreeMap::new(), expires_at }).await
    }

    /// Who a key becomes by an invitation, or why it does not.
    async fn claim(&self, hash: &str, key: &str, wish: &str) -> Result<String, NoClaim> {
        let about = About::default();
        let claim = Claim { hash, fingerprint: key, wish: wish.parse(), about: &about, node: None };
        let claimed = self.store.claim(claim).await.expect("the database takes it");
        claimed.map(|(name, _)| name.to_string())
    }

    async fn device_names(&self) -> Vec<String> {
        let devices = self.store.devices().await.unwrap();
        devices.into_iter().map(|device| device.name.to_string()).collect()
    }

    async fn put_host(&self, name: &str) {
        let text = format!(
            "kind: Host\nname: {name}\nspec: {{engine: device, cordoned: true, draining: true}}"
        );
        let (manifest, host) =
            Host::read(parse_documents(&text).unwrap()[0].value.clone()).unwrap();
        self.store.put(&manifest.spec, &host, Precondition::None, PUT).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_is_known_stays_who_it_is_whatever_it_is_invited_by() {
    let bench = Bench::new().await;
    for (hash, name) in [("h1", None), ("h2", None), ("h3", Some("pi")), ("h4", Some("other"))] {
        bench.invite(hash, name).await.unwrap();
    }
    assert_eq!(bench.claim("h1", "key", "pi").await.unwrap(), "pi");
    assert_eq!(bench.claim("h1", "key", "pi").await.unwrap(), "pi", "its answer was lost");
    // So was the invitation.
    assert_eq!(bench.claim("h2", "key", "pi").await.unwrap(), "pi");
    assert_eq!(bench.claim("h3", "key", "pi").await.unwrap(), "pi");
    let refused = bench.claim("h4", "key", "pi").await.unwrap_err();
    assert_eq!(refused, NoClaim::Enrolled(host("pi")));
    assert_eq!(bench.device_names().await, ["pi"]);
}

#[tokio::test]
async fn invitations_that_were_used_do_not_wait() {
    let bench = Bench::new().await;
    for number in 0..1000 {
        bench.invite(&format!("h{number}"), None).await.unwrap();
    }
    let refused = bench.invite("more", None).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooManyInvites), "{refused}");
    bench.claim("h1", "key", "pi").await.unwrap();
    bench.invite("more", None).await.unwrap();
}

#[tokio::test]
async fn a_device_is_renamed_with_its_host_or_not_at_all() {
    let bench = Bench::new().await;
    bench.invite("h", None).await.unwrap();
    bench.claim("h", "key", "pi").await.unwrap();
    bench.put_host("pi").await;
    bench.put_host("taken").await;
    let rename = async |to: &str| {
        let cause = |verb| Cause { verb, ..PUT };
        bench.store.rename_device(&host("pi"), &host(to), cause).await
    };
    let refused = rename("taken").await.unwrap_err();
    assert!(matches!(refused, StoreError::NameTaken { .. }), "{refused}");
    assert_eq!(bench.device_names().await, ["pi"], "nothing is half done");
    assert!(rename("kitchen").await.unwrap());
    assert!(!rename("kitchen").await.unwrap(), "there is no such device any more");
    assert_eq!(bench.device_names().await, ["kitchen"]);
    assert!(bench.store.find::<Host>(&host("pi")).await.unwrap().is_none());
    let host = bench.store.read::<Host>(&host("kitchen")).await.unwrap();
    assert_eq!(host.spec.labels["device"], "kitchen");
    assert!(!host.spec.draining, "it is another host");
}
