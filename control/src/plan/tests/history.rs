//! What is told of what happens, compared turn by turn.

use super::*;
use crate::{history::compare::compare, reconciler::World};

/// Turns until nothing more follows, and what is told of it: the type of each event.
fn told(bench: &mut Bench, former: World) -> Vec<&'static str> {
    let (mut former, mut told) = (former, Vec::new());
    for _ in 0..100 {
        let moved = bench.turn();
        told.extend(compare(&former, bench.world()).events.iter().map(|event| event.what));
        former = bench.world().clone();
        if !moved {
            return told;
        }
    }
    panic!("does not settle: {told:?}");
}

#[test]
fn each_step_of_an_apps_life_is_told_and_nothing_else() {
    let mut bench = Bench::new();
    let mut check = |change: &dyn Fn(&mut Bench), expected: &[&str]| {
        let former = bench.world().clone();
        change(&mut bench);
        assert_eq!(told(&mut bench, former), expected);
    };
    let made = ["Created", "DeploymentMade", "InstanceCreated", "RouteChanged"];
    let started = ["InstanceStarted", "InstanceReady", "RouteChanged"];
    check(&|bench| bench.put("shop", SLEEPY), &[&made[..], &started].concat());
    check(&|bench| bench.pass(seconds(1)), &[]);
    check(&|bench| bench.pass(seconds(61)), &["RouteChanged", "InstancePaused"]);
    check(&|bench| bench.wake("shop"), &["InstanceResumed", "RouteChanged"]);
    check(
        &|bench| {
            bench.crash("shop-1-0", 7);
        },
        &["InstanceExited", "RouteChanged"],
    );
    check(
        &|bench| bench.engine_restarts("shop-1-0"),
        &["InstanceStarted", "InstanceReady", "RouteChanged"],
    );
    check(&|bench| bench.delete("shop"), &["Deleted", "RouteChanged", "InstanceRemoved"]);
}
