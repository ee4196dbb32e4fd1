//! Shards as they are meant: members that share a load.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Balance, HealthCheck, MemberName, Problem, Problems, ShardManifest, ShardName, Upstream, app,
    decode::decode_partly, spec::MemberSpec,
};

/// A valid shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    pub name: ShardName,
    pub members: Vec<Member>,
    /// Labels of its hosts; without any it has none.
    pub hosts: BTreeMap<String, String>,
    pub balance: Balance,
    pub health: HealthCheck,
}

/// A server that something else keeps running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Unique among its fellows; says which keys are its own.
    pub name: MemberName,
    pub address: SocketAddr,
    /// 1 to 1000.
    pub weight: u16,
}

/// The most members of one shard.
const MAX_MEMBERS: usize = 1000;
const MAX_WEIGHT: u16 = 1000;

impl Shard {
    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Every problem of reading it and every problem of what could be read.
    pub fn read(value: Value) -> Result<(ShardManifest, Self), Problems> {
        let (manifest, mut problems) = decode_partly::<ShardManifest>(value);
        let Some(manifest) = manifest else { return Err(problems) };
        match Self::from_manifest(&manifest) {
            Ok(shard) => problems.or_value((manifest, shard)),
            Err(found) => {
                problems.also(found);
                Err(problems)
            }
        }
    }

    /// Checks a manifest.
    ///
    /// # Errors
    /// Every problem of the manifest, each with the pointer of its field.
    pub fn from_manifest(manifest: &ShardManifest) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let spec = &manifest.spec;
        if manifest.kind != "Shard" {
            let message = format!("`{}` is not `Shard`", manifest.kind);
            problems.push(Problem::new("/kind", "unknown_kind", message));
        }
        let name = problems.take("/name", "bad_name", manifest.name.parse::<ShardName>());
        let members = match spec.members.as_slice() {
            [] if !spec.hosts.is_empty() => Vec::new(),
            written => members("/spec/members", written, &mut problems),
        };
        let balance = app::balance("/spec/balance", &spec.balance, &mut problems);
        // Its apps may speak to its members differently; plain HTTP/1.1 is what they have in common.
        let upstream = Upstream::default();
        let health = app::health("/spec/health", &spec.health, &upstream, &mut problems);
        let Some(name) = name else { return Err(problems) };
        problems.or_value(Self { name, members, hosts: spec.hosts.clone(), balance, health })
    }
}

/// An app's own addresses: each is a member that is named by it.
pub(crate) fn upstreams(written: &[String], problems: &mut Problems) -> Vec<Member> {
    let specs: Vec<_> = written
        .iter()
        .map(|address| MemberSpec { name: None, address: address.clone(), weight: 1 })
        .collect();
    members("/spec/upstreams", &specs, problems)
}

fn members(base: &str, written: &[MemberSpec], problems: &mut Problems) -> Vec<Member> {
    if written.is_empty() || written.len() > MAX_MEMBERS {
        let message = format!("write 1 to {MAX_MEMBERS} of them");
        problems.push(Problem::new(base, "out_of_range", message));
    }
    let mut members: Vec<Member> = Vec::with_capacity(written.len());
    for (i, spec) in written.iter().enumerate() {
        let Some(member) = member(&format!("{base}/{i}"), spec, problems) else { continue };
        if members.iter().any(|other| other.name == member.name) {
            let message = format!("there is another `{}`", member.name);
            problems.push(Problem::new(format!("{base}/{i}"), "duplicate", message));
        }
        members.push(member);
    }
    members
}

fn member(base: &str, spec: &MemberSpec, problems: &mut Problems) -> Option<Member> {
    let address = spec.address.parse::<SocketAddr>().map_err(|_| {
        format!("`{}` is not an address; write IP:PORT, as 10.0.0.1:8080", spec.address)
    });
    if !(1..=MAX_WEIGHT).contains(&spec.weight) {
        let message = format!("a weight is 1 to {MAX_WEIGHT}");
        problems.push(Problem::new(format!("{base}/weight"), "out_of_range", message));
    }
    let name = spec.name.as_ref().unwrap_or(&spec.address).parse();
    let name = problems.take(&format!("{base}/name"), "bad_name", name)?;
    let address = problems.take(base, "bad_address", address)?;
    Some(Member { name, address, weight: spec.weight })
}
