//! What the tests of tables and of choices share.

mod choice;
mod table;

use super::*;
use crate::{HashAlgorithm, MemberId, MemberOf, hash::Numbers};

const ALGORITHMS: [HashAlgorithm; 2] = [HashAlgorithm::Ring, HashAlgorithm::Maglev];

fn member(name: &str, weight: u16) -> Endpoint {
    let of = MemberOf::Shard("s".parse().unwrap());
    Endpoint {
        id: MemberId { of, name: name.parse().unwrap() }.into(),
        address: "127.0.0.1:1".parse().unwrap(),
        reach: Reach::Direct,
        weight,
        ready_since: Moment(0),
        activity: Arc::default(),
    }
}

/// Members named m0, m1 and so on.
fn members(weights: &[u16]) -> Vec<Endpoint> {
    weights.iter().enumerate().map(|(i, weight)| member(&format!("m{i}"), *weight)).collect()
}

fn hashing(algorithm: HashAlgorithm) -> Balance {
    Balance { hash: Some(HashKey::Host), algorithm, ..Balance::default() }
}

/// So many keys, whichever they are.
fn keys(count: usize) -> impl Iterator<Item = u64> {
    (0..count).map(|i| HashKey::hash(format!("key-{i}")))
}

fn choice(key: impl Into<Option<u64>>, random: u64) -> Choice {
    Choice { key: key.into(), random, now: Moment(0) }
}

fn owner(pool: &Pool, key: u64) -> &EndpointId {
    &pool.pick(choice(key, 0), |_| true).unwrap().id
}

/// Each endpoint's part of this many requests that choose one after another, `in_flight` at a time:
/// for each that begins, one taken at random ends. Every request has another key.
fn shares(pool: &Pool, in_flight: usize, requests: usize, now: Moment, seed: u64) -> Vec<f64> {
    let mut numbers = Numbers(seed);
    let mut leases = Vec::new();
    let mut counts = vec![0; pool.endpoints().len()];
    for _ in 0..requests {
        let request = Choice { key: Some(numbers.next()), random: numbers.next(), now };
        let picked = pool.pick(request, |_| true).unwrap();
        counts[pool.endpoints().iter().position(|e| e.id == picked.id).unwrap()] += 1;
        leases.push(picked.activity.begin());
        if leases.len() > in_flight {
            leases.swap_remove(numbers.below(leases.len()));
        }
    }
    counts.into_iter().map(|count| f64::from(count) / requests as f64).collect()
}
