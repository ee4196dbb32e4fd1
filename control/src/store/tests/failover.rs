//! Failover policies.

use weir_config::{FailoverName, FailoverPolicy, Shares, Steering};

use super::*;
use crate::{seal::Keyring, store::Provider};

fn policy(name: &str) -> FailoverName {
    name.parse().unwrap()
}

async fn put(
    bench: &Bench,
    name: &str,
    hostnames: &str,
) -> Result<Written<FailoverPolicy>, StoreError> {
    let text = format!(
        "{{kind: FailoverPolicy, name: {name}, spec: {{hostnames: {hostnames},
           targets: [{{name: a, cdn: a.example}}, {{name: b, addresses: [192.0.2.1]}}]}}}}"
    );
    let value = parse_documents(&text).unwrap()[0].value.clone();
    let (manifest, policy) = FailoverPolicy::read(value).unwrap();
    bench.store.put(&manifest.spec, &policy, Precondition::None, PUT).await
}

async fn delete(bench: &Bench, name: &str) {
    let name = policy(name);
    bench.store.delete::<FailoverPolicy>(&name, Precondition::None, DELETE).await.unwrap();
}

#[tokio::test]
async fn a_host_name_is_steered_by_one_policy_until_it_is_given_up() {
    let bench = Bench::new().await;
    put(&bench, "shop", "[shop.example, www.shop.example]").await.unwrap();
    let error = put(&bench, "blog", "[blog.example, www.shop.example]").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "www.shop.example is steered by the failover policy `shop` already; remove it there first"
    );
    let StoreError::HostnameSteered { pointer, .. } = &error else { panic!("{error:?}") };
    assert_eq!(pointer, "/spec/hostnames/1");
    assert!(!bench.store.desired().await.unwrap().policies.contains_key(&policy("blog")));
    put(&bench, "blog", "[blog.example]").await.expect("half of the change was made");
    put(&bench, "shop", "[shop.example]").await.unwrap();
    put(&bench, "blog", "[blog.example, www.shop.example]").await.unwrap();
    delete(&bench, "blog").await;
    put(&bench, "shop", "[blog.example, shop.example, www.shop.example]").await.unwrap();
}

#[tokio::test]
async fn a_policy_is_meant_and_its_changes_are_told() {
    let bench = Bench::new().await;
    put(&bench, "shop", "[shop.example]").await.unwrap();
    let same = put(&bench, "shop", "[shop.example]").await.unwrap();
    assert!(same.operation.is_none(), "nothing has changed");
    let desired = bench.store.desired().await.unwrap();
    assert_eq!(desired.policies[&policy("shop")].targets.len(), 2);
    delete(&bench, "shop").await;
    let (last, changes) = bench.store.changes_since(0).await.unwrap().unwrap();
    assert_eq!((last, changes), (2, vec![Changed::FailoverPolicy(policy("shop"))]));
    assert!(bench.store.desired().await.unwrap().policies.is_empty());
}

#[tokio::test]
async fn how_far_a_controller_is_outlives_a_restart_but_not_its_policy() {
    let mut bench = Bench::new().await;
    let ttl = Duration::from_secs(30);
    let steering = |epoch| Steering { epoch, shares: Shares::all_to(1, 2), ttl };
    put(&bench, "shop", "[shop.example]").await.unwrap();
    for epoch in [1, 2] {
        let state = format!("{{\"is\":{epoch}}}");
        bench.store.save_failover_state(&policy("shop"), &state, &steering(epoch)).await.unwrap();
        bench.store.save_failover_state(&policy("gone"), "{}", &steering(epoch)).await.unwrap();
    }
    bench.reopen("test.example").await;
    let saved = bench.store.failover_states().await.unwrap();
    assert_eq!(saved.len(), 1, "of one that is not there nothing is kept: {saved:?}");
    let saved = &saved[0];
    assert_eq!(
        (&saved.policy, &*saved.state, saved.steering),
        (&policy("shop"), "{\"is\":2}", steering(2))
    );
    delete(&bench, "shop").await;
    put(&bench, "shop", "[shop.example]").await.unwrap();
    assert_eq!(bench.store.failover_states().await.unwrap(), [], "it begins anew");
}

#[tokio::test]
async fn a_policy_names_a_provider_that_exists_and_that_stays_until_it_lets_go() {
    let bench = Bench::new().await;
    let with_provider = async || {
        let text = "{kind: FailoverPolicy, name: shop, spec: {hostnames: [shop.example],
            targets: [{name: a, cdn: a.example}], provider: there}}";
        let value = parse_documents(text).unwrap()[0].value.clone();
        let (manifest, policy) = FailoverPolicy::read(value).unwrap();
        bench.store.put(&manifest.spec, &policy, Precondition::None, PUT).await
    };
    let error = with_provider().await.unwrap_err();
    assert_eq!(error.to_string(), "there is no provider `there`; apply it first");
    let there = "there".parse().unwrap();
    let spec = serde_json::from_str("{\"cloudflare\": {\"token\": \"t\"}}").unwrap();
    let provider = Provider::new(&there, &spec, &Keyring::new()).unwrap();
    bench.store.put(&spec.shown(), &provider, Precondition::None, PUT).await.unwrap();
    with_provider().await.unwrap();
    let delete = async || bench.store.delete::<Provider>(&there, Precondition::None, DELETE).await;
    assert_eq!(
        delete().await.unwrap_err().to_string(),
        "the provider `there` carries out the failover policy `shop`; change or delete that first"
    );
    put(&bench, "shop", "[shop.example]").await.unwrap();
    delete().await.unwrap();
}

#[tokio::test]
async fn an_app_is_in_front_of_a_policy_that_exists_and_is_not_weir_itself() {
    let bench = Bench::new().await;
    let put_app = async || {
        let text = "{kind: App, name: front, spec: {failover: shop}}";
        let value = parse_documents(text).unwrap()[0].value.clone();
        let (manifest, app) = App::read(value, &bench.store.base_domain).unwrap();
        bench.store.put(&manifest.spec, &app, Precondition::None, PUT).await
    };
    let error = put_app().await.unwrap_err();
    assert!(matches!(&error, StoreError::NoSuchPolicy(name) if **name == *"shop"), "{error}");
    let own = "{kind: FailoverPolicy, name: shop, spec: {hostnames: [shop.example],
        targets: [{name: a, cdn: a.example}, {name: b, own: true}]}}";
    let (manifest, meant) =
        FailoverPolicy::read(parse_documents(own).unwrap()[0].value.clone()).unwrap();
    bench.store.put(&manifest.spec, &meant, Precondition::None, PUT).await.unwrap();
    let error = put_app().await.unwrap_err();
    assert!(matches!(&error, StoreError::OwnTarget(name) if **name == *"shop"), "{error}");
    put(&bench, "shop", "[shop.example]").await.unwrap();
    put_app().await.unwrap();
}
