//! Whose a key is, and what moves it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{HostName, InstanceId};

fn instances(deployment: u64, count: u16) -> Vec<Endpoint> {
    let host = HostName::local();
    let id =
        |ordinal| InstanceId { app: "a".parse().unwrap(), deployment, ordinal, host: host.clone() };
    (0..count).map(|ordinal| Endpoint { id: id(ordinal).into(), ..member("m", 1) }).collect()
}

/// Members of any weights and the place of one of them.
fn some_and_one(weight: u16) -> impl Strategy<Value = (Vec<Endpoint>, usize)> {
    let members = proptest::collection::btree_map("[a-z]{1,8}", 1..=weight, 2..20)
        .prop_map(|named| named.iter().map(|(name, weight)| member(name, *weight)).collect());
    (members, any::<prop::sample::Index>())
        .prop_map(|(members, index): (Vec<_>, _)| (index.index(members.len()), members))
        .prop_map(|(index, members)| (members, index))
}

/// How many of 2,000 keys are another's when one endpoint of the pool is gone, or has come: those
/// that it owns, and others.
fn moved(members: &[Endpoint], one: usize, algorithm: HashAlgorithm) -> (usize, usize) {
    let with = Pool::new(members.to_vec(), hashing(algorithm));
    let mut others = members.to_vec();
    let one = others.remove(one);
    let without = Pool::new(others, hashing(algorithm));
    let (mut own, mut other) = (0, 0);
    for key in keys(2000) {
        match owner(&with, key) {
            owner if *owner == one.id => own += 1,
            still => other += usize::from(still != owner(&without, key)),
        }
    }
    (own, other)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn on_a_ring_only_the_keys_of_the_one_that_comes_or_goes_move(
        (members, one) in some_and_one(4),
    ) {
        prop_assert_eq!(moved(&members, one, HashAlgorithm::Ring).1, 0);
    }

    #[test]
    fn so_it_is_with_great_weights_unless_the_heaviest_goes((members, one) in some_and_one(1000)) {
        let heaviest = members.iter().map(|member| member.weight).max();
        prop_assume!(Some(members[one].weight) != heaviest);
        prop_assert_eq!(moved(&members, one, HashAlgorithm::Ring).1, 0);
    }

    #[test]
    fn with_maglev_hardly_any_others_do((members, one) in some_and_one(1000)) {
        let (_, others) = moved(&members, one, HashAlgorithm::Maglev);
        prop_assert!(others <= 80, "{} of 2000", others);
    }

    #[test]
    fn the_order_of_the_endpoints_does_not_matter(
        (members, _) in some_and_one(10),
        seed in any::<u64>(),
    ) {
        let mut shuffled = members.clone();
        let mut numbers = Numbers(seed);
        shuffled.sort_by_cached_key(|_| numbers.next());
        for algorithm in ALGORITHMS {
            let one = Pool::new(members.clone(), hashing(algorithm));
            let other = Pool::new(shuffled.clone(), hashing(algorithm));
            prop_assert!(keys(200).all(|key| owner(&one, key) == owner(&other, key)));
        }
    }
}

/// With wishes at equal distances, a third of the keys moved here.
#[test]
fn no_two_follow_each_other_through_maglevs_table() {
    let members = [member("a", 38), member("bzvj", 160), member("zdexfrl", 85)];
    for one in 0..members.len() {
        let (_, others) = moved(&members, one, HashAlgorithm::Maglev);
        assert!(others <= 80, "{others} of 2000 without {}", members[one].id);
    }
}

/// The greatest deviation of an endpoint's keys from its share.
fn deviation(weights: &[u16], algorithm: HashAlgorithm) -> f64 {
    const KEYS: u64 = 100_000;
    let pool = Pool::new(members(weights), hashing(algorithm));
    let mut owned = BTreeMap::<_, usize>::new();
    // Keys at equal distances: chance is in the table alone.
    for key in (0..KEYS).map(|i| i * (u64::MAX / KEYS)) {
        *owned.entry(owner(&pool, key)).or_default() += 1;
    }
    let all: f64 = weights.iter().copied().map(f64::from).sum();
    let deviation = |member: &Endpoint| {
        let share = f64::from(member.weight) / all * KEYS as f64;
        (owned.get(&member.id).map_or(0.0, |owned| *owned as f64) / share - 1.0).abs()
    };
    pool.endpoints().iter().map(deviation).fold(0.0, f64::max)
}

#[test]
fn each_endpoint_owns_its_share_of_the_keys() {
    use HashAlgorithm::{Maglev, Ring};
    for (weights, algorithm, bound) in [
        (&[1; 3][..], Ring, 0.15),
        (&[1; 3], Maglev, 0.01),
        (&[1; 50], Ring, 0.25),
        (&[1; 50], Maglev, 0.02),
        (&[1, 2, 3, 4], Ring, 0.15),
        (&[1, 2, 3, 4], Maglev, 0.01),
        (&[100, 300, 600, 1000], Ring, 0.15),
        (&[100, 300, 600, 1000], Maglev, 0.01),
    ] {
        let deviation = deviation(weights, algorithm);
        assert!(deviation < bound, "{weights:?} {algorithm:?}: {deviation}");
    }
}

#[test]
fn a_ring_has_no_end() {
    let pool = Pool::new(members(&[1; 20]), hashing(HashAlgorithm::Ring));
    assert_eq!(owner(&pool, u64::MAX), owner(&pool, 0));
}

#[test]
fn the_lightest_endpoint_owns_some_keys_and_a_weight_of_zero_counts_as_one() {
    for algorithm in ALGORITHMS {
        for weights in [[1, 65_535], [0, 65_535]] {
            let pool = Pool::new(members(&weights), hashing(algorithm));
            let light = &pool.endpoints()[0].id;
            assert!(keys(100_000).any(|key| owner(&pool, key) == light), "{algorithm:?}");
        }
    }
}

#[test]
fn a_new_deployment_and_a_new_address_keep_their_keys() {
    for algorithm in ALGORITHMS {
        let former = Pool::new(instances(9, 12), hashing(algorithm));
        let mut moved = instances(10, 12);
        moved[3].address = "10.1.2.3:80".parse().unwrap();
        let next = Pool::new(moved, hashing(algorithm));
        let ordinal = |pool: &Pool, key| owner(pool, key).instance().unwrap().ordinal;
        assert!(keys(1000).all(|key| ordinal(&former, key) == ordinal(&next, key)));
    }
}

#[test]
fn a_table_is_made_only_to_be_asked() {
    let hashed = |count: usize| Pool::new(members(&vec![1; count]), hashing(HashAlgorithm::Ring));
    assert!(hashed(0).table.is_none() && hashed(1).table.is_none() && hashed(2).table.is_some());
    assert!(Pool::new(members(&[1; 2]), Balance::default()).table.is_none());
}

/// Another process, another version, another architecture and a resolver must come to these too:
/// to change one is to move every key of every pool.
#[test]
fn whose_a_key_is_never_changes() {
    assert_eq!(HashKey::hash(""), 0x9563_4172_a60b_7544);
    assert_eq!(HashKey::hash("example.com"), 0xcc33_5725_ea17_afe9);
    assert_eq!(HashKey::hash([0xff, 0x00]), 0x9ba8_0abc_bed6_b6be);
    let owners = |endpoints: &[Endpoint], algorithm| -> String {
        let pool = Pool::new(endpoints.to_vec(), hashing(algorithm));
        let last = |key| owner(&pool, key).to_string().chars().next_back().unwrap();
        keys(24).map(last).collect()
    };
    let (members, instances) = (members(&[50, 100, 150, 200]), instances(1, 9));
    let found = [&members, &instances].map(|endpoints| ALGORITHMS.map(|a| owners(endpoints, a)));
    assert_eq!(
        found,
        [
            ["033333123122102331233332", "320033132131331200333323"],
            ["348702067485727312703241", "412475104150437048224241"],
        ]
    );
}
