//! Shards, and apps over upstreams or shards.

use std::sync::Arc;

use weir_config::{Backends, EndpointId, MemberId, MemberOf, Moment, Pool, RouteState};

use super::{bench::Bench, seconds};
use crate::{event::Event, subject::Subject};

const TWO: &str = "{upstreams: [\"10.1.0.1:80\", \"10.1.0.2:80\"]}";
const EAST: &str = "{members: [{name: a, address: \"10.2.0.1:80\"},
    {name: b, address: \"10.2.0.2:80\", weight: 3}], balance: {hash: host}}";

fn names(pool: &Pool) -> Vec<String> {
    pool.endpoints().iter().map(|endpoint| endpoint.id.to_string()).collect()
}

fn bench_with(app: &str, spec: &str) -> Bench {
    let mut bench = Bench::new();
    bench.put(app, spec);
    bench.settle();
    bench
}

fn shard_bench() -> Bench {
    let mut bench = Bench::new();
    bench.put_shard("east", EAST);
    bench.put("sites", "{shards: [east]}");
    bench.settle();
    bench
}

fn upstream(name: &str) -> EndpointId {
    let of = MemberOf::App("legacy".parse().unwrap());
    MemberId { of, name: name.parse().unwrap() }.into()
}

#[test]
fn upstreams_serve_once_they_are_probed_and_need_no_engine() {
    let mut bench = Bench::unlisted(Default::default());
    bench.put("legacy", TWO);
    bench.turn();
    assert_eq!(*bench.route("legacy"), RouteState::Starting, "nothing is known of them yet");
    bench.pass(seconds(3));
    bench.settle();
    assert_eq!(bench.served_by("legacy"), ["legacy/10.1.0.1:80", "legacy/10.1.0.2:80"]);
    assert!(!bench.turn(), "a settled world plans nothing");
    bench.pass(seconds(3600));
    assert!(!bench.turn());
}

#[test]
fn a_member_that_fails_leaves_the_pool_and_comes_back_as_a_new_one() {
    let mut bench = bench_with("legacy", TWO);
    let first = bench.own_pool("legacy").endpoints()[0].ready_since;
    bench.down = vec!["10.1.0.1:80"];
    bench.settle();
    assert_eq!(bench.served_by("legacy"), ["legacy/10.1.0.2:80"]);
    bench.pass(seconds(60));
    bench.down.clear();
    bench.settle();
    assert_eq!(bench.served_by("legacy"), ["legacy/10.1.0.1:80", "legacy/10.1.0.2:80"]);
    let since = bench.own_pool("legacy").endpoints()[0].ready_since;
    assert_eq!(since.since(first), seconds(60), "its slow start begins anew");
}

#[test]
fn when_no_upstream_passes_the_reason_is_told() {
    let mut bench = bench_with("legacy", TWO);
    bench.down = vec!["10.1.0.1:80", "10.1.0.2:80"];
    bench.settle();
    let RouteState::Unavailable { reason, .. } = bench.route("legacy") else {
        panic!("{:?}", bench.route("legacy"));
    };
    assert_eq!(reason, "no upstream passes its health check");
}

#[test]
fn a_shard_has_its_ready_members_with_their_weights_and_is_there_without_any() {
    let mut bench = shard_bench();
    assert_eq!(names(bench.shard("east")), ["shard/east/a", "shard/east/b"]);
    let weights = bench.shard("east").endpoints().iter().map(|endpoint| endpoint.weight);
    assert_eq!(weights.collect::<Vec<_>>(), [1, 3]);
    let shards = Arc::from(["east".parse().unwrap()]);
    assert_eq!(*bench.route("sites"), RouteState::Serving(Backends::Shards(shards)));

    bench.down = vec!["10.2.0.1:80", "10.2.0.2:80"];
    bench.settle();
    assert!(bench.shard("east").endpoints().is_empty());
    bench.delete("sites");
    bench.delete_shard("east");
    bench.settle();
    assert_eq!(bench.observed().served.shards().count(), 0);
}

#[test]
fn a_pool_is_made_anew_only_when_it_changes() {
    let mut bench = shard_bench();
    bench.put("legacy", TWO);
    bench.put("shop", "{image: a}");
    bench.settle();
    let pools = |bench: &Bench| {
        [bench.shard("east"), bench.own_pool("legacy"), bench.own_pool("shop")].map(Arc::clone)
    };
    let before = pools(&bench);
    bench.put("legacy", "{upstreams: [\"10.1.0.1:80\", \"10.1.0.2:80\"], hostnames: [a.com]}");
    bench.put("shop", "{image: a, hostnames: [b.com]}");
    bench.settle();
    assert_eq!(bench.observed().served.host_count(), 5);
    let after = pools(&bench);
    assert!(before.iter().zip(&after).all(|(before, after)| Arc::ptr_eq(before, after)));
    bench.put("legacy", "{upstreams: [\"10.1.0.1:80\", \"10.1.0.2:80\"], balance: {hash: path}}");
    bench.settle();
    assert!(bench.own_pool("legacy").balance().hash.is_some());
}

#[test]
fn a_restart_adopts_the_members_that_were_served_until_a_probe_says_otherwise() {
    let mut before = shard_bench();
    before.put("legacy", TWO);
    before.down = vec!["10.1.0.2:80"];
    before.settle();
    assert_eq!(before.served_by("legacy"), ["legacy/10.1.0.1:80"]);

    let mut after = Bench::unlisted((*before.observed().served).clone());
    after.put_shard("east", EAST);
    after.put("sites", "{shards: [east]}");
    after.put("legacy", TWO);
    after.reconciler.world.desired.revision = before.world().desired.revision;
    after.down = vec!["10.1.0.2:80"];
    after.pass(seconds(5));
    after.settle();
    assert!(Arc::ptr_eq(after.shard("east"), before.shard("east")), "nothing has changed");
    assert!(Arc::ptr_eq(after.own_pool("legacy"), before.own_pool("legacy")));

    after.down = vec!["10.1.0.1:80", "10.2.0.1:80"];
    after.settle();
    assert_eq!(after.served_by("legacy"), ["legacy/10.1.0.2:80"]);
    assert_eq!(names(after.shard("east")), ["shard/east/b"]);
}

#[test]
fn a_member_that_moves_is_not_sent_requests_before_it_answers_there() {
    let mut bench = bench_with("legacy", TWO);
    bench.put_shard("east", EAST);
    bench.settle();
    bench.down = vec!["10.9.9.9:80"];
    let of = MemberOf::Shard("east".parse().unwrap());
    let endpoint: EndpointId = MemberId { of, name: "a".parse().unwrap() }.into();
    let before = bench.planned_for(Subject::Shard("east".parse().unwrap()));
    let epoch = before.probes[&endpoint].epoch;
    bench.put_shard("east", &EAST.replace("10.2.0.1", "10.9.9.9"));
    bench.turn();
    assert_eq!(names(bench.shard("east")), ["shard/east/b"]);
    // A probe of where it was ends late.
    bench.tell(Event::Probed { endpoint, epoch, outcome: Ok(()) });
    bench.settle();
    assert_eq!(names(bench.shard("east")), ["shard/east/b"]);
    bench.down.clear();
    bench.settle();
    let addresses = bench.shard("east").endpoints().iter().map(|e| e.address.to_string());
    assert_eq!(addresses.collect::<Vec<_>>(), ["10.9.9.9:80", "10.2.0.2:80"]);
}

#[test]
fn what_an_app_was_serves_until_what_it_is_can() {
    let mut bench = bench_with("legacy", "{image: a}");
    bench.down = vec!["10.1.0.1:80", "10.1.0.2:80"];
    bench.put("legacy", TWO);
    assert!(bench.settle().is_empty());
    assert_eq!(bench.served_by("legacy"), ["legacy-1-0"]);
    bench.down.clear();
    assert_eq!(bench.settle(), ["remove legacy-1-0"]);
    assert_eq!(bench.served_by("legacy"), ["legacy/10.1.0.1:80", "legacy/10.1.0.2:80"]);

    bench.broken.push("a");
    bench.put("legacy", "{image: a}");
    assert_eq!(bench.settle(), ["create legacy-2-0", "start legacy-2-0"]);
    assert_eq!(bench.served_by("legacy"), ["legacy/10.1.0.1:80", "legacy/10.1.0.2:80"]);
    bench.broken.clear();
    bench.settle();
    assert_eq!(bench.served_by("legacy"), ["legacy-2-0"]);
}

#[test]
fn the_counters_of_a_member_that_is_gone_go_when_its_requests_have() {
    let mut bench = bench_with("legacy", TWO);
    let counters = bench.activity.endpoint(&upstream("10.1.0.1:80"));
    let request = counters.begin();
    bench.put("legacy", "{upstreams: [\"10.1.0.2:80\"]}");
    bench.reconciler.world.observed.forget_gone(&bench.activity);
    bench.settle();
    bench.reconciler.world.observed.forget_gone(&bench.activity);
    assert_eq!(bench.activity.in_flight_on(&upstream("10.1.0.1:80")), 1);
    drop(request);
    bench.reconciler.world.observed.forget_gone(&bench.activity);
    assert!(!Arc::ptr_eq(&counters, &bench.activity.endpoint(&upstream("10.1.0.1:80"))));
}

#[test]
fn a_shard_that_cannot_be_read_is_served_on() {
    let mut bench = shard_bench();
    let east = "east".parse().unwrap();
    bench.reconciler.world.desired.shards.remove(&east);
    bench.change(|change| (change.whole, change.unreadable_shards) = (true, [east].into()));
    bench.settle();
    assert_eq!(names(bench.shard("east")), ["shard/east/a", "shard/east/b"]);
}

#[test]
fn slow_start_does_not_begin_anew_with_a_restart() {
    let mut before = bench_with("legacy", TWO);
    before.settle();
    let restored = before.own_pool("legacy").endpoints().iter().map(|endpoint| {
        weir_config::Endpoint { ready_since: Moment::default(), ..endpoint.clone() }
    });
    let pool = Arc::new(Pool::new(restored.collect(), before.own_pool("legacy").balance().clone()));
    let mut route = (**before.observed().served.app(&before.app("legacy")).unwrap()).clone();
    route.state = RouteState::Serving(Backends::Own(pool));
    let mut served = (*before.observed().served).clone();
    served.insert(route);

    let mut after = Bench::unlisted(served);
    after.put("legacy", TWO);
    after.settle();
    let since = after.own_pool("legacy").endpoints().iter().map(|e| e.ready_since.0);
    assert_eq!(since.collect::<Vec<_>>(), [0, 0]);
}
