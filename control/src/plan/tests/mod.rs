//! The plan against a small engine, in virtual time.

mod bench;
mod failover;
mod gate;
mod history;
mod hosts;
mod incidents;
mod members;
mod rollout;
mod zones;

use std::time::Duration;

use weir_config::{HostName, RouteState, SleepLevel};
use weir_deploy::{ContainerState, Listing, ProviderError};

use self::bench::Bench;
pub(crate) use self::bench::info;
use crate::{
    action::{Action, StopReason},
    event::{DesiredChange, Event},
};

const SLEEPY: &str = "{image: a, sleep: {pause_after: 60s, stop_after: 10m, min_awake: 5s}}";

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn awake_bench() -> Bench {
    let mut bench = Bench::new();
    bench.put("shop", SLEEPY);
    bench.settle();
    bench
}

#[test]
fn a_new_app_is_made_started_and_then_served() {
    let mut bench = Bench::new();
    bench.put("shop", "{image: a, instances: 2}");
    let actions = bench.settle();
    assert_eq!(actions, ["create shop-1-0", "create shop-1-1", "start shop-1-0", "start shop-1-1"]);
    assert_eq!(bench.served_by("shop"), ["shop-1-0", "shop-1-1"]);
}

#[test]
fn a_settled_world_plans_nothing() {
    let mut bench = awake_bench();
    assert!(!bench.turn());
    bench.pass(seconds(59));
    assert!(!bench.turn());
}

#[test]
fn an_idle_app_is_paused_then_stopped_and_the_next_request_wakes_it() {
    let mut bench = awake_bench();
    bench.pass(seconds(61));
    assert_eq!(bench.settle(), ["pause shop-1-0"]);
    assert_eq!(*bench.route("shop"), RouteState::Asleep(SleepLevel::Paused));

    bench.wake("shop");
    assert_eq!(bench.settle(), ["unpause shop-1-0"]);
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);

    bench.pass(seconds(61));
    bench.settle();
    bench.pass(seconds(600));
    assert_eq!(bench.settle(), ["stop shop-1-0"]);
    assert_eq!(*bench.route("shop"), RouteState::Asleep(SleepLevel::Stopped));

    for _ in 0..1000 {
        bench.wake("shop");
    }
    assert_eq!(bench.settle(), ["start shop-1-0"], "one start for any number of requests");
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn while_it_wakes_requests_are_held_under_the_level_that_it_wakes_from() {
    let mut bench = awake_bench();
    bench.pass(seconds(61));
    bench.settle();
    bench.pass(seconds(600));
    bench.settle();
    bench.broken.push("a");
    bench.wake("shop");
    bench.settle();
    assert_eq!(*bench.route("shop"), RouteState::Asleep(SleepLevel::Stopped));
    bench.broken.clear();
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn an_app_sleeps_neither_in_use_nor_right_after_a_wake() {
    let mut bench = awake_bench();
    let request = bench.request("shop");
    bench.pass(seconds(3600));
    assert!(bench.settle().is_empty(), "a request is in flight");
    let next = bench.planned("shop").wake_at;
    assert_eq!(next, Some(bench.now + seconds(60)), "nothing else would tell that it ended");
    drop(request);
    bench.pass(seconds(60));
    assert_eq!(bench.settle(), ["stop shop-1-0"]);
    bench.wake("shop");
    bench.settle();
    bench.pass(seconds(4));
    assert!(bench.settle().is_empty(), "it must stay awake for five seconds");
}

#[test]
fn a_request_between_hold_and_pause_calls_the_pause_off() {
    let mut bench = awake_bench();
    bench.pass(seconds(61));
    let mut held = bench.reconciler.plan(&bench.activity, bench.now).expect("it is due");
    let planned = held.subjects.pop_first().unwrap().1;
    assert!(planned.actions.is_empty(), "nothing is paused before the hold is served");
    let (snapshot, changed) = held.snapshot.expect("the hold");
    bench.reconciler.published(snapshot, changed, bench.now);
    assert_eq!(*bench.route("shop"), RouteState::Asleep(SleepLevel::Paused));

    let request = bench.request("shop");
    assert!(bench.settle().is_empty(), "no call to the engine");
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
    drop(request);
}

#[test]
fn a_new_deployment_is_ready_before_the_former_one_leaves() {
    let mut bench = awake_bench();
    let former = bench.instance("shop-1-0");
    let on_former = bench.activity.endpoint(&former.into()).begin();
    bench.put("shop", "{image: b}");
    assert_eq!(bench.settle(), ["create shop-2-0", "start shop-2-0"]);
    assert_eq!(bench.served_by("shop"), ["shop-2-0"]);
    drop(on_former);
    assert_eq!(bench.settle(), ["pause shop-1-0"], "it is kept for a rollback");
    bench.pass(seconds(601));
    bench.settle();
    assert_eq!(bench.log.last().unwrap(), "remove shop-1-0");
}

#[test]
fn a_request_that_does_not_end_is_waited_for_until_the_drain_deadline() {
    let mut bench = awake_bench();
    let former = bench.instance("shop-1-0");
    let _stuck = bench.activity.endpoint(&former.into()).begin();
    bench.put("shop", "{image: b, rollout: {drain: 20s}}");
    bench.settle();
    bench.pass(seconds(19));
    assert!(bench.settle().is_empty());
    bench.pass(seconds(2));
    assert_eq!(bench.settle(), ["stop shop-1-0"], "not frozen under the request");
}

#[test]
fn a_first_deployment_that_never_gets_ready_is_tried_again() {
    let mut bench = Bench::new();
    bench.broken.push("a");
    bench.put("shop", "{image: a, rollout: {deadline: 30s}}");
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["starting"]);
    bench.pass(seconds(31));
    assert_eq!(bench.settle(), ["stop shop-1-0"]);
    let failure = bench.observed().instances[&bench.instance("shop-1-0")].failure.clone();
    assert!(failure.unwrap().message.contains("not ready 30s after its start"));
    assert!(bench.settle().is_empty(), "not before the back-off ends");
    bench.pass(seconds(6));
    assert_eq!(bench.settle(), ["start shop-1-0"]);
    bench.broken.clear();
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn a_process_that_dies_before_it_was_ever_ready_is_stopped_and_told() {
    let mut bench = Bench::new();
    bench.broken.push("a");
    bench.put("shop", "{image: a}");
    bench.settle();
    bench.crash("shop-1-0", 7);
    assert_eq!(bench.settle(), ["stop shop-1-0"], "the engine would start it for ever");
    let RouteState::Unavailable { reason, .. } = bench.route("shop") else {
        panic!("{:?}", bench.route("shop"));
    };
    assert!(reason.contains("exited with code 7"), "{reason}");
    bench.pass(seconds(6));
    assert_eq!(bench.settle(), ["start shop-1-0"]);
}

#[test]
fn a_process_that_dies_after_it_was_ready_is_left_to_the_engine_and_takes_no_requests() {
    let mut bench = awake_bench();
    bench.crash("shop-1-0", 7);
    assert!(bench.settle().is_empty());
    assert_eq!(bench.served_by("shop"), ["starting"]);
    bench.engine_restarts("shop-1-0");
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn a_restart_adopts_what_runs_and_does_nothing_to_it() {
    let mut before = awake_bench();
    before.put("idle", SLEEPY);
    before.settle();
    before.pass(seconds(61));
    let busy = before.request("shop");
    before.settle();
    assert_eq!(*before.route("idle"), RouteState::Asleep(SleepLevel::Paused));
    drop(busy);

    let mut after = Bench::unlisted((*before.observed().served).clone());
    after.reconciler.world.desired = before.world().desired.clone();
    after.images = before.images.clone();
    assert!(!after.turn(), "nothing is done or changed before the engine has answered");
    assert_eq!(after.served_by("shop"), ["shop-1-0"]);

    after.engine = before.engine.clone();
    after.list();
    assert!(after.settle().is_empty());
    assert_eq!(after.served_by("shop"), ["shop-1-0"]);
    assert_eq!(*after.route("idle"), RouteState::Asleep(SleepLevel::Paused));
    after.wake("idle");
    assert_eq!(after.settle(), ["unpause idle-1-0"]);
}

/// The snapshot on disk is a moment older than the last pause.
#[test]
fn a_request_that_a_restart_sends_to_a_frozen_instance_is_answered() {
    let mut before = awake_bench();
    let on_disk = (*before.observed().served).clone();
    before.put("shop", "{image: b}");
    before.settle();
    let former = before.instance("shop-1-0");
    assert_eq!(before.engine[&former].state, ContainerState::Paused);

    let mut after = Bench::unlisted(on_disk);
    (after.images, after.engine) = (before.images.clone(), before.engine.clone());
    after.tell(Event::Desired(DesiredChange::whole(before.world().desired.clone())));
    let request = after.activity.endpoint(&former.into()).begin();
    after.list();
    assert_eq!(after.settle(), ["unpause shop-1-0"]);
    assert_eq!(after.served_by("shop"), ["shop-2-0"]);
    drop(request);
    after.pass(seconds(1));
    assert_eq!(after.settle(), ["pause shop-1-0"]);
}

/// Who ended the second instance is not known after that: it may have been Weir, for the sleep.
#[test]
fn an_app_that_was_killed_half_awake_gets_up_whole() {
    let mut before = Bench::new();
    before.put("shop", "{image: a, instances: 2, restart: never, sleep: {pause_after: 60s}}");
    before.put("job", "{image: a, restart: never}");
    before.settle();
    let mut after = Bench::unlisted((*before.observed().served).clone());
    after.images = before.images.clone();
    after.engine = before.engine.clone();
    for ended in ["shop-1-1", "job-1-0"] {
        let ended_well = ContainerState::Exited { code: 0, out_of_memory: false };
        after.change_container(&before.instance(ended), ended_well, None);
    }
    after.tell(Event::Desired(DesiredChange::whole(before.world().desired.clone())));
    after.list();
    assert_eq!(after.settle(), ["start shop-1-1"], "and what never sleeps stays ended");
    assert_eq!(after.served_by("shop"), ["shop-1-0", "shop-1-1"]);
}

#[test]
fn a_deleted_app_is_not_served_and_its_containers_go_when_their_requests_have() {
    let mut bench = awake_bench();
    let id = bench.instance("shop-1-0");
    let lease = bench.activity.endpoint(&id.clone().into()).begin();
    bench.delete("shop");
    assert!(bench.settle().is_empty());
    assert!(bench.observed().served.app(&bench.app("shop")).is_none());
    drop(lease);
    assert_eq!(bench.settle(), ["remove shop-1-0"]);
    assert!(bench.observed().instances.is_empty());
}

#[test]
fn while_the_engine_is_away_nothing_is_done_and_what_serves_serves_on() {
    let mut bench = awake_bench();
    let error = ProviderError::Unreachable {
        endpoint: "/var/run/docker.sock".to_owned(),
        reason: "connection refused".to_owned(),
    };
    bench.tell(Event::EngineDown { host: HostName::local(), error });
    bench.put("second", "{image: a}");
    assert!(bench.settle().is_empty());
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
    assert_eq!(bench.served_by("second"), ["unavailable"]);
    bench.list();
    assert_eq!(bench.settle(), ["create second-1-0", "start second-1-0"]);
}

#[test]
fn a_look_that_began_before_an_action_ended_does_not_undo_it() {
    let mut bench = awake_bench();
    let listing = bench.listing();
    let began = bench.now;
    bench.pass(seconds(61));
    bench.settle();
    let late = Event::EngineListed { host: HostName::local(), info: info(), listing, began };
    bench.tell(late);
    assert!(bench.settle().is_empty(), "it is still known to be paused");
}

#[test]
fn a_published_port_is_given_free_before_it_is_taken() {
    let mut bench = Bench::new();
    bench.put("shop", "{image: a, ports: [\"5000:5000\"]}");
    bench.settle();
    bench.put("shop", "{image: b, ports: [\"5000:5000\"]}");
    assert_eq!(bench.settle(), ["create shop-2-0", "stop shop-1-0", "start shop-2-0"]);
}

#[test]
fn the_idle_clock_of_an_app_that_was_slow_to_start_begins_when_it_is_ready() {
    let mut bench = Bench::new();
    bench.broken.push("a");
    bench.put("shop", "{image: a, sleep: {pause_after: 1s, stop_after: null, min_awake: 0s}}");
    bench.settle();
    bench.pass(seconds(10));
    bench.broken.clear();
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn a_death_that_is_told_late_is_not_the_next_process_s() {
    let mut bench = awake_bench();
    bench.pass(seconds(700));
    bench.settle();
    let id = bench.instance("shop-1-0");
    let stopped_at = bench.engine_time();
    bench.pass(seconds(1));
    bench.wake("shop");
    bench.settle();
    bench.die(id, stopped_at, 143);
    assert!(bench.settle().is_empty());
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn an_instance_that_is_being_stopped_takes_no_request() {
    let mut bench = awake_bench();
    let instance = bench.instance("shop-1-0");
    let stop = Action::Stop { instance, grace: seconds(10), why: StopReason::Sleep };
    bench.reconciler.begun(&stop, bench.now);
    let _request = bench.request("shop");
    bench.settle();
    assert_ne!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn a_former_deployment_that_crashes_once_still_stands_in_for_one_that_never_got_ready() {
    let mut bench = awake_bench();
    bench.broken.push("b");
    bench.put("shop", "{image: b}");
    bench.settle();
    bench.crash("shop-1-0", 9);
    assert!(bench.settle().is_empty(), "the engine starts it again");
    bench.engine_restarts("shop-1-0");
    bench.settle();
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn an_app_that_cannot_be_read_is_left_alone() {
    let mut bench = awake_bench();
    let app = bench.app("shop");
    bench.reconciler.world.desired.apps.remove(&app);
    bench.change(|change| (change.whole, change.unreadable) = (true, [app].into()));
    assert!(bench.settle().is_empty());
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn a_container_that_cannot_be_looked_at_is_not_taken_for_gone() {
    let mut bench = awake_bench();
    let unknown = vec![bench.instance("shop-1-0")];
    let listing = Listing { containers: Vec::new(), unknown };
    bench.pass(seconds(1));
    let event =
        Event::EngineListed { host: HostName::local(), info: info(), listing, began: bench.now };
    bench.tell(event);
    assert!(bench.settle().is_empty());
    assert_eq!(bench.served_by("shop"), ["shop-1-0"]);
}

#[test]
fn an_unhealthy_instance_is_not_ended_before_its_requests_have_had_their_time() {
    let mut bench = Bench::new();
    bench.put("shop", "{image: a, rollout: {deadline: 10s, drain: 60s}}");
    bench.settle();
    let id = bench.instance("shop-1-0");
    let socket = bench.activity.endpoint(&id.clone().into()).begin();
    bench.broken.push("a");
    let epoch = bench.observed().instances[&id].epoch;
    let outcome = Err("503".to_owned());
    bench.tell(Event::Probed { endpoint: id.into(), epoch, outcome });
    bench.settle();
    bench.pass(seconds(20));
    assert!(bench.settle().is_empty(), "a request is on it still");
    drop(socket);
    assert_eq!(bench.settle(), ["stop shop-1-0"]);
}
