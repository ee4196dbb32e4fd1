//! A name's A, AAAA and CNAME records: those of the target with the largest share.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_config::Hostname;

use super::{Cloudflare, Zone};
use crate::providers::{Place, Refusal, Wanted};

/// What a target's records are; others of the name are none of ours.
const TYPES: [&str; 3] = ["A", "AAAA", "CNAME"];
/// Cloudflare keeps no record for less, unless the zone is an enterprise's.
const SHORTEST_TTL: u32 = 60;
const LONGEST_TTL: u32 = 86_400;
/// What it makes of the TTL of a record that its proxies stand in front of.
const AUTOMATIC: u32 = 1;

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Record {
    id: String,
    #[serde(flatten)]
    data: RecordData,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct RecordData {
    r#type: String,
    name: String,
    content: String,
    ttl: u32,
    #[serde(default)]
    proxied: bool,
}

impl Cloudflare {
    /// Makes a name's records those of the leading target, in one transaction.
    pub(super) async fn write_records(
        &self,
        zone: &Zone,
        hostname: &Hostname,
        wanted: &Wanted,
    ) -> Result<bool, Refusal> {
        let path = format!("/zones/{}/dns_records", zone.id);
        let query = [("name.exact", &**hostname), ("per_page", super::PAGE)];
        let found: Vec<Record> = self.call(Method::GET, &path, &query, None).await?;
        let found = found.into_iter().filter(|record| TYPES.contains(&&*record.data.r#type));
        let comment = format!("by Weir's failover policy {}", wanted.policy);
        let Some(batch) = batch(found.collect(), self.records(hostname, wanted), &comment) else {
            return Ok(false);
        };
        let path = format!("{path}/batch");
        self.call::<Value>(Method::POST, &path, &[], Some(&batch)).await?;
        Ok(true)
    }

    fn records(&self, hostname: &Hostname, wanted: &Wanted) -> Vec<RecordData> {
        let record = |kind: &str, content: String| RecordData {
            r#type: kind.to_owned(),
            name: hostname.to_string(),
            content,
            ttl: if self.proxied { AUTOMATIC } else { wanted.ttl.clamp(SHORTEST_TTL, LONGEST_TTL) },
            proxied: self.proxied,
        };
        match wanted.leading().map(|target| &target.place) {
            Some(Place::Cname(target)) => vec![record("CNAME", target.to_string())],
            Some(Place::Addresses(addresses)) => {
                let kind =
                    |address: &std::net::IpAddr| if address.is_ipv4() { "A" } else { "AAAA" };
                addresses.iter().map(|a| record(kind(a), a.to_string())).collect()
            }
            None => Vec::new(),
        }
    }
}

/// What makes `found` the `wanted` ones; `None` if they are.
fn batch(found: Vec<Record>, mut wanted: Vec<RecordData>, comment: &str) -> Option<Value> {
    let (mut deletes, mut patches) = (Vec::new(), Vec::new());
    for Record { id, data } in found {
        let is_it = |one: &RecordData| (&one.r#type, &one.content) == (&data.r#type, &data.content);
        match wanted.iter().position(is_it) {
            None => deletes.push(json!({"id": id})),
            Some(place) => {
                let one = wanted.swap_remove(place);
                if (one.ttl, one.proxied) != (data.ttl, data.proxied) {
                    patches.push(json!({"id": id, "ttl": one.ttl, "proxied": one.proxied}));
                }
            }
        }
    }
    if deletes.is_empty() && patches.is_empty() && wanted.is_empty() {
        return None;
    }
    wanted.sort_unstable();
    let post = |record: RecordData| {
        let mut post = json!(record);
        post["comment"] = json!(comment);
        post
    };
    let posts: Vec<_> = wanted.into_iter().map(post).collect();
    Some(json!({"deletes": deletes, "patches": patches, "posts": posts}))
}
