//! Deployments from wanted to live, and every way out, in virtual time.

use weir_config::{DeploymentState as State, Ending};

use super::{bench::Bench, seconds};
use crate::transition::{Transition, ending};

const DURABLE: &str = "bake: 0s";

fn live_bench(image: &str, rollout: &str) -> Bench {
    let mut bench = Bench::new();
    put(&mut bench, image, rollout);
    bench.settle();
    bench
}

fn put(bench: &mut Bench, image: &str, rollout: &str) {
    bench.put("shop", &format!("{{image: {image}, instances: 2, rollout: {{{rollout}}}}}"));
}

fn ending_of(bench: &Bench, number: u64) -> Ending {
    bench.deployment("shop", number).ending.as_deref().cloned().unwrap_or_default()
}

fn roll_back(to: Option<u64>) -> Transition {
    Transition::RollBack { to, ending: ending("RolledBackByOperator") }
}

#[test]
fn a_deployment_goes_through_its_states_in_order() {
    let mut bench = Bench::new();
    put(&mut bench, "a", "");
    assert_eq!(bench.deployment("shop", 1).state, State::Pending);
    bench.settle();
    assert_eq!(bench.deployment("shop", 1).state, State::Live);
    bench.broken.push("b");
    put(&mut bench, "b", "");
    bench.settle();
    assert_eq!(bench.deployment("shop", 2).state, State::Verifying);
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
    bench.broken.clear();
    bench.settle();
    assert_eq!(bench.deployment("shop", 2).state, State::Live);
    assert_eq!(bench.deployment("shop", 1).state, State::Superseded);
    let order = ["Preparing", "Starting", "Verifying", "Shifting", "Draining", "live"];
    assert_eq!(bench.moves("shop", 2), order);
}

#[test]
fn one_that_exits_before_it_is_ready_fails_at_once_and_touches_nothing() {
    let mut bench = live_bench("a", DURABLE);
    bench.broken.push("b");
    put(&mut bench, "b", DURABLE);
    bench.settle();
    bench.crash("shop-2-1", 7);
    assert_eq!(bench.settle_sorted(), ["remove shop-2-0", "remove shop-2-1", "stop shop-2-1"]);
    assert_eq!(bench.deployment("shop", 2).state, State::Failed);
    let Ending { reason, exit_code, log_tail, instance, .. } = ending_of(&bench, 2);
    assert_eq!((reason.as_str(), exit_code), ("InstanceExited", Some(7)));
    assert_eq!((log_tail, instance.as_deref()), (vec!["boom".to_owned()], Some("shop-2-1")));
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
    bench.pass(seconds(3600));
    assert!(bench.settle().is_empty(), "it is not tried again");
}

#[test]
fn one_that_is_not_ready_in_time_fails() {
    let mut bench = live_bench("a", DURABLE);
    bench.broken.push("b");
    put(&mut bench, "b", "deadline: 20s");
    bench.settle();
    bench.pass(seconds(21));
    bench.settle();
    assert_eq!(ending_of(&bench, 2).reason, "HealthCheckFailed");
    assert_eq!(bench.deployment("shop", 2).state, State::Failed);
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
    assert_eq!(bench.engine.len(), 2);
}

#[test]
fn an_image_that_cannot_be_had_is_tried_for_a_second_time() {
    let mut bench = live_bench("a", DURABLE);
    bench.missing.push("b");
    put(&mut bench, "b", DURABLE);
    bench.settle();
    assert_eq!(bench.deployment("shop", 2).state, State::Preparing);
    bench.pass(seconds(6));
    bench.settle();
    assert_eq!(bench.deployment("shop", 2).state, State::Failed);
    assert_eq!(ending_of(&bench, 2).reason, "ImageUnavailable");
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
}

#[test]
fn one_that_is_called_off_leaves_nothing_behind() {
    let mut bench = live_bench("a", DURABLE);
    bench.broken.push("b");
    put(&mut bench, "b", DURABLE);
    bench.settle();
    bench.ask("shop", &Transition::Cancel { ending: ending("Cancelled") });
    assert_eq!(bench.settle(), ["remove shop-2-0", "remove shop-2-1"]);
    assert_eq!(bench.deployment("shop", 2).state, State::Cancelled);
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);

    let mut bench = Bench::new();
    bench.broken.push("a");
    put(&mut bench, "a", "");
    bench.settle();
    bench.ask("shop", &Transition::Cancel { ending: ending("Cancelled") });
    bench.settle();
    assert!(bench.engine.is_empty());
    assert_eq!(bench.served_by("shop"), ["unavailable"]);
}

#[test]
fn a_newer_one_takes_the_place_of_one_on_its_way() {
    let mut bench = live_bench("a", DURABLE);
    bench.broken.push("b");
    put(&mut bench, "b", DURABLE);
    bench.settle();
    put(&mut bench, "c", DURABLE);
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-3-0", "shop-3-1"]);
    assert_eq!(bench.deployment("shop", 1).state, State::Superseded);
    assert!(bench.engine.keys().all(|id| id.deployment != 2), "{:?}", bench.engine);
}

#[test]
fn a_rollback_thaws_what_was_kept_and_needs_no_image() {
    let mut bench = live_bench("a", DURABLE);
    put(&mut bench, "b", DURABLE);
    bench.settle();
    bench.missing.push("a");
    bench.ask("shop", &roll_back(None));
    let actions = bench.settle();
    let expected = ["unpause shop-1-0", "unpause shop-1-1", "pause shop-2-0", "pause shop-2-1"];
    assert_eq!(actions, expected);
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
    assert_eq!(bench.deployment("shop", 2).state, State::RolledBack);
    // Written again as it is, the spec changes nothing: the rollback was meant.
    put(&mut bench, "b", DURABLE);
    assert!(bench.settle().is_empty());
    // And forth again.
    bench.ask("shop", &roll_back(Some(2)));
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-2-0", "shop-2-1"]);
}

#[test]
fn what_is_kept_goes_in_time_and_a_later_rollback_makes_it_anew() {
    let mut bench = live_bench("a", DURABLE);
    put(&mut bench, "b", "bake: 0s, keep: 60s");
    bench.settle();
    bench.pass(seconds(61));
    assert_eq!(bench.settle(), ["remove shop-1-0", "remove shop-1-1"]);
    bench.ask("shop", &roll_back(None));
    let actions = bench.settle();
    assert_eq!(actions[..2], ["create shop-1-0", "create shop-1-1"]);
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);

    let mut bench = live_bench("a", DURABLE);
    put(&mut bench, "b", "bake: 0s, keep: 0s");
    bench.settle();
    assert!(bench.engine.keys().all(|id| id.deployment == 2), "{:?}", bench.engine);
}

#[test]
fn one_that_is_not_reached_through_the_public_route_is_rolled_back() {
    let mut bench = live_bench("a", DURABLE);
    bench.public_error = Some("status 502");
    put(&mut bench, "b", DURABLE);
    let actions = bench.settle();
    assert!(!actions.iter().any(|action| action.contains("shop-1")), "{actions:?}");
    assert_eq!(bench.served_by("shop"), ["shop-2-0", "shop-2-1"]);
    bench.pass(seconds(10));
    assert_eq!(bench.settle(), ["remove shop-2-0", "remove shop-2-1"]);
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
    assert_eq!(bench.deployment("shop", 2).state, State::RolledBack);
    let Ending { reason, message, .. } = ending_of(&bench, 2);
    assert_eq!(reason, "PublicCheckFailed");
    assert!(message.ends_with("status 502"), "{message}");
}

#[test]
fn a_rolling_one_replaces_one_instance_after_the_other() {
    let mut bench = live_bench("a", "strategy: rolling, bake: 0s");
    bench.broken.push("b");
    put(&mut bench, "b", "strategy: rolling, bake: 0s");
    assert_eq!(bench.settle(), ["create shop-2-0", "start shop-2-0"], "one at a time");
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
    bench.broken.clear();
    let stuck = bench.activity.endpoint(&bench.instance("shop-1-0").into()).begin();
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-2-0", "shop-1-1"], "both answer");
    drop(stuck);
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-2-0", "shop-2-1"]);
    assert_eq!(bench.deployment("shop", 2).state, State::Live);
}

#[test]
fn a_rolling_one_that_fails_half_way_gives_back_what_it_took() {
    let mut bench = live_bench("a", "strategy: rolling, bake: 0s");
    put(&mut bench, "b", "strategy: rolling, bake: 0s");
    let stuck = bench.activity.endpoint(&bench.instance("shop-1-0").into()).begin();
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-2-0", "shop-1-1"]);
    bench.crash("shop-2-1", 3);
    drop(stuck);
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
    assert_eq!(bench.deployment("shop", 2).state, State::RolledBack);
    assert_eq!(bench.engine.len(), 2);
}

const CANARY: &str =
    "strategy: canary, steps: [10, 50], step_for: 30s, max_error_rate: 0.1, bake: 0s";

#[test]
fn a_canary_gets_its_steps_and_then_all() {
    let mut bench = live_bench("a", CANARY);
    put(&mut bench, "b", CANARY);
    bench.settle();
    let shares = |bench: &Bench| {
        let pool = bench.own_pool("shop");
        pool.endpoints().iter().map(|e| (e.id.to_string(), e.weight)).collect::<Vec<_>>()
    };
    let shares_of = |new: u16| {
        let of = |deployment: u64, ordinal: u16, weight: u16| {
            (format!("shop-{deployment}-{ordinal}"), weight)
        };
        vec![of(2, 0, new), of(2, 1, new), of(1, 0, 100 - new), of(1, 1, 100 - new)]
    };
    assert_eq!(shares(&bench), shares_of(10));
    bench.pass(seconds(29));
    bench.settle();
    assert_eq!(shares(&bench), shares_of(10));
    bench.pass(seconds(1));
    bench.settle();
    assert_eq!(shares(&bench), shares_of(50));
    bench.answers("shop-2-0", 100, 5);
    bench.pass(seconds(30));
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-2-0", "shop-2-1"]);
    assert_eq!(bench.deployment("shop", 2).state, State::Live);
}

#[test]
fn a_canary_that_fails_too_often_is_rolled_back() {
    let mut bench = live_bench("a", CANARY);
    put(&mut bench, "b", CANARY);
    bench.settle();
    bench.answers("shop-2-0", 4, 4);
    bench.pass(seconds(1));
    bench.settle();
    assert_eq!(bench.deployment("shop", 2).state, State::Shifting, "so few say nothing");
    bench.answers("shop-2-1", 16, 7);
    bench.pass(seconds(1));
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
    let Ending { reason, message, .. } = ending_of(&bench, 2);
    assert_eq!(reason, "ErrorRateTooHigh");
    assert_eq!(message, "55 % of 20 answers failed; 10 % may");
}

#[test]
fn one_that_turns_bad_while_it_bakes_is_rolled_back() {
    let bakes = "bake: 60s, max_error_rate: 0.1, keep: 1s";
    let mut bench = live_bench("a", bakes);
    put(&mut bench, "b", bakes);
    bench.settle();
    assert_eq!(bench.deployment("shop", 2).state, State::Live);
    bench.answers("shop-2-0", 50, 25);
    bench.pass(seconds(2));
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
    assert_eq!(bench.deployment("shop", 2).state, State::RolledBack);
    assert_eq!(ending_of(&bench, 2).reason, "ErrorRateTooHigh");
    // Nobody goes back to what was rolled back.
    bench.answers("shop-1-0", 50, 50);
    bench.pass(seconds(2));
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
}

#[test]
fn what_both_write_to_is_given_free_first_and_taken_back_on_failure() {
    let spec = |image| format!("{{image: {image}, volumes: [\"data:/data\"]}}");
    let mut bench = Bench::new();
    bench.put("shop", &spec("a"));
    bench.settle();
    bench.broken.push("b");
    bench.put("shop", &spec("b"));
    assert_eq!(bench.settle(), ["create shop-2-0", "stop shop-1-0", "start shop-2-0"]);
    bench.crash("shop-2-0", 1);
    let actions = bench.settle();
    assert_eq!(actions, ["stop shop-2-0", "start shop-1-0", "remove shop-2-0"]);
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn what_is_kept_does_not_sleep_with_the_app_or_wake_with_it() {
    let spec = |image| {
        format!("{{image: {image}, sleep: {{pause_after: 60s, stop_after: 2m, min_awake: 0s}}}}")
    };
    let mut bench = Bench::new();
    bench.put("shop", &spec("a"));
    bench.settle();
    bench.put("shop", &spec("b"));
    bench.settle();
    bench.pass(seconds(61));
    assert_eq!(bench.settle(), ["pause shop-2-0"]);
    bench.pass(seconds(60));
    assert_eq!(bench.settle(), ["stop shop-2-0"]);
    bench.wake("shop");
    assert_eq!(bench.settle(), ["start shop-2-0"]);
    assert_eq!(bench.served_by("shop"), ["shop-2-0"]);
}

#[test]
fn an_engine_that_is_away_fails_no_deployment() {
    let mut bench = live_bench("a", DURABLE);
    bench.broken.push("b");
    put(&mut bench, "b", "deadline: 20s, bake: 0s");
    bench.settle();
    bench.silence("local");
    bench.pass(seconds(60));
    bench.settle();
    assert_eq!(bench.deployment("shop", 2).state, State::Verifying);
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
}

/// Whatever is asked in whatever order, and whatever crashes meanwhile: what answers is ready, one
/// deployment is live in the end, and nothing of the others runs.
#[test]
fn any_sequence_of_requests_and_crashes_settles_with_one_live_deployment() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let strategies = ["blue-green", "rolling", "canary, steps: [50], step_for: 1s"];
        let strategy = strategies[random.below(3)];
        let rollout = format!("strategy: {strategy}, deadline: 5s, bake: 2s, keep: 30s");
        let mut bench = live_bench("a", &rollout);
        for step in 0..30 {
            let at = format!("seed {seed}, step {step}, {strategy}");
            match random.below(7) {
                0 | 1 => put(&mut bench, ["a", "b", "c"][random.below(3)], &rollout),
                2 => _ = bench.try_ask("shop", &roll_back(None)),
                3 => _ = bench.try_ask("shop", &Transition::Cancel { ending: ending("Cancelled") }),
                4 => bench.crash_any(random.below(8)),
                5 => bench.broken = [vec![], vec!["b"], vec!["c"]][random.below(3)].clone(),
                _ => bench.pass(seconds(1 + random.below(6) as u64)),
            }
            for _ in 0..random.below(12) {
                bench.turn();
                bench.assert_only_ready_ones_serve(&at);
            }
        }
        bench.broken.clear();
        for _ in 0..20 {
            bench.restart_all();
            bench.pass(seconds(10));
            bench.settle();
        }
        let states = bench.states("shop");
        let live = states.iter().filter(|state| **state == State::Live).count();
        let moving = states.iter().any(|state| state.is_under_way());
        assert!(live == 1 && !moving, "seed {seed}: {states:?}");
        let served = bench.served_by("shop");
        assert_eq!(served.len(), 2, "seed {seed}: {served:?}");
        bench.pass(seconds(60));
        bench.settle();
        assert_eq!(bench.engine.len(), 2, "seed {seed}: {:?}", bench.engine);
    }
}

/// A linear congruential generator: enough to choose by, and the same for a seed everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % n
    }
}
