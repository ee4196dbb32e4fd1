//! A load balancer for a name, with a pool for each target: the shares are the weights of the pools.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_config::Hostname;

use super::{Cloudflare, Zone};
use crate::providers::{Place, Refusal, Wanted, WantedTarget};

/// Something that has an id and fields of which only those are known that are wanted.
#[derive(Debug, Deserialize)]
struct Found {
    id: String,
    name: String,
    #[serde(flatten)]
    fields: Value,
}

impl Cloudflare {
    /// Makes a name's load balancer share its clients as the targets do.
    pub(super) async fn balance(
        &self,
        zone: &Zone,
        hostname: &Hostname,
        wanted: &Wanted,
    ) -> Result<bool, Refusal> {
        let pools = format!("/accounts/{}/load_balancers/pools", zone.account.id);
        let found: Vec<Found> = self.call(Method::GET, &pools, &[], None).await?;
        let (mut ids, mut has_changed) = (Vec::new(), false);
        for target in &wanted.targets {
            let pool = pool(wanted, target);
            let (id, changed) = self.put(&pools, &found, &pool).await?;
            ids.push((id, target.share));
            has_changed |= changed;
        }
        let balancers = format!("/zones/{}/load_balancers", zone.id);
        let found: Vec<Found> = self.call(Method::GET, &balancers, &[], None).await?;
        let balancer = self.balancer(hostname, wanted, &ids);
        Ok(self.put(&balancers, &found, &balancer).await?.1 || has_changed)
    }

    fn balancer(&self, hostname: &Hostname, wanted: &Wanted, pools: &[(String, u16)]) -> Value {
        let with_share: Vec<_> = pools.iter().filter(|(_, share)| *share > 0).collect();
        // Weights are hundredths, and whoever has a share keeps one.
        let weight = |share: u16| f64::from((share / 100).max(1)) / 100.0;
        let weights: serde_json::Map<_, _> =
            with_share.iter().map(|(id, share)| (id.clone(), json!(weight(*share)))).collect();
        let serving =
            if with_share.is_empty() { pools.iter().collect() } else { with_share.clone() };
        let ids: Vec<_> = serving.iter().map(|(id, _)| id).collect();
        let mut balancer = json!({
            "name": &**hostname,
            // One without any share is not asked.
            "enabled": !with_share.is_empty(),
            "default_pools": ids,
            "fallback_pool": ids.first(),
            "steering_policy": "random",
            "random_steering": {"default_weight": 0.0, "pool_weights": weights},
            "proxied": self.proxied,
        });
        if !self.proxied {
            balancer["ttl"] = json!(wanted.ttl);
        }
        balancer
    }

    /// Makes the one of this name what is wanted of it; its id, and whether that changed anything.
    async fn put(
        &self,
        path: &str,
        found: &[Found],
        wanted: &Value,
    ) -> Result<(String, bool), Refusal> {
        let found = found.iter().find(|found| wanted["name"] == found.name.as_str());
        let Some(found) = found else {
            let made: Found = self.call(Method::POST, path, &[], Some(wanted)).await?;
            return Ok((made.id, true));
        };
        let has_all = wanted
            .as_object()
            .is_some_and(|all| all.iter().all(|(k, v)| k == "name" || is_in(v, &found.fields[k])));
        if !has_all {
            let path = format!("{path}/{}", found.id);
            self.call::<Value>(Method::PATCH, &path, &[], Some(wanted)).await?;
        }
        Ok((found.id.clone(), !has_all))
    }
}

/// Whether something that is wanted is so already; what else there is does not matter.
fn is_in(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(w, f)| is_in(w, f))
        }
        // Weights are a whole: one more would take from the others.
        (Value::Object(wanted), Value::Object(found)) if wanted.contains_key("pool_weights") => {
            wanted.iter().all(|(key, value)| found.get(key) == Some(value))
        }
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().all(|(key, value)| found.get(key).is_some_and(|f| is_in(value, f)))
        }
        (Value::Number(wanted), Value::Number(found)) => wanted.as_f64() == found.as_f64(),
        (wanted, found) => wanted == found,
    }
}

/// The pool of a target. An origin is an address, or the name that a CDN gave.
fn pool(wanted: &Wanted, target: &WantedTarget) -> Value {
    let addresses: Vec<String> = match &target.place {
        Place::Cname(name) => vec![name.to_string()],
        Place::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
    };
    let origin = |(i, address): (usize, &String)| {
        let name = format!("{}-{}", target.name, i + 1);
        json!({"name": name, "address": address, "enabled": true, "weight": 1.0})
    };
    let origins: Vec<_> = addresses.iter().enumerate().map(origin).collect();
    let name = format!("weir-{}-{}", wanted.policy, target.name);
    json!({"name": name, "enabled": true, "origins": origins})
}
