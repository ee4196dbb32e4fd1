//! Which host each instance is on, and how it gets to another one.

use std::collections::{BTreeMap, BTreeSet};

use weir_config::{HostName, InstanceId, Moment};
use weir_deploy::ContainerState;

use super::{Bench, seconds};
use crate::{
    event::Event,
    host::HostState,
    plan::placement::Places,
    status,
    transition::{Transition, ending},
};

/// A bench whose own machine takes nothing, with hosts of these names.
fn bench(hosts: &[&str]) -> Bench {
    let mut bench = Bench::new();
    bench.put_host("local", "{cordoned: true}");
    for host in hosts {
        bench.put_host(host, ENGINE);
    }
    bench
}

const ENGINE: &str = "{engine: \"unix:///e\"}";
const DRAINING: &str = "{engine: \"unix:///e\", cordoned: true, draining: true}";

/// How many instances of an app are on each host.
fn hosts_of(bench: &Bench, app: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for id in bench.engine.keys().filter(|id| *id.app == *app) {
        *found.entry(id.host.to_string()).or_default() += 1;
    }
    found
}

/// Where the only instance of an app is.
fn host_of(bench: &Bench, app: &str) -> String {
    let hosts = hosts_of(bench, app);
    assert_eq!(hosts.values().sum::<usize>(), 1, "{hosts:?}");
    hosts.into_keys().next().unwrap()
}

/// Where the instances of an app would be if nothing ran.
fn dealt(bench: &Bench, app: &str) -> Vec<InstanceId> {
    let mut observed = bench.observed().clone();
    observed.instances.clear();
    let desired = &bench.world().desired;
    let app = &desired.apps[&bench.app(app)];
    Places::new(desired, &observed).place(app, app.target().unwrap()).instances
}

/// A host that was cut off becomes lost: its instances fail their checks, its engine is not heard of.
fn lose(bench: &mut Bench, host: &str) {
    let name: HostName = host.parse().unwrap();
    bench.cut_off.push(name.clone());
    let of_host = bench.engine.keys().filter(|id| id.host == name).cloned();
    for id in of_host.collect::<Vec<_>>() {
        let epoch = bench.observed().instances[&id].epoch;
        let outcome = Err("no route to host".to_owned());
        bench.tell(Event::Probed { endpoint: id.into(), epoch, outcome });
    }
    bench.silence(host);
    assert_eq!(bench.observed().host(&name).state, HostState::Suspect);
}

fn return_of(bench: &mut Bench, host: &str) {
    let name: HostName = host.parse().unwrap();
    bench.cut_off.retain(|other| *other != name);
    bench.list_host(&name);
}

#[test]
fn instances_are_spread_over_hosts_and_each_is_reached_where_it_is() {
    let mut bench = bench(&["a", "b", "c"]);
    bench.put("shop", "{image: a, instances: 5}");
    bench.settle();
    let counts = hosts_of(&bench, "shop");
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.values().all(|count| (1..=2).contains(count)), "{counts:?}");
    assert_eq!(bench.served_by("shop").len(), 5);
    assert!(bench.settle().is_empty());
}

/// For any number of hosts and instances: a host that comes takes its share and nothing moves
/// between others; and the same the other way round.
#[test]
fn a_host_that_comes_or_goes_moves_only_its_share() {
    let names: Vec<_> = (0..7).map(|n| format!("h{n}")).collect();
    for hosts in 1..names.len() {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut few = bench(&names[..hosts]);
        let mut more = bench(&names[..=hosts]);
        let new = names[hosts];
        let (mut moved, mut all) = (0, 0);
        for app in 0..40 {
            let (name, instances) = (format!("app{app}"), 1 + app % 16);
            for bench in [&mut few, &mut more] {
                bench.put(&name, &format!("{{image: a, instances: {instances}}}"));
            }
            let count = |bench: &Bench| {
                let mut counts = BTreeMap::<String, usize>::new();
                for id in dealt(bench, &name) {
                    *counts.entry(id.host.to_string()).or_default() += 1;
                }
                counts
            };
            let (before, after) = (count(&few), count(&more));
            for (host, count) in &after {
                if host != new {
                    let former = before.get(host).copied().unwrap_or_default();
                    assert!(*count <= former, "{name}: {host} has gained: {before:?} {after:?}");
                }
            }
            all += instances;
            moved += after.get(new).copied().unwrap_or_default();
        }
        let share = all / (hosts + 1);
        assert!(moved.abs_diff(share) <= 10 + share / 4, "{moved} of {all} on {} hosts", hosts + 1);
    }
}

#[test]
fn what_is_kept_for_a_rollback_holds_up_no_drain() {
    let mut bench = bench(&["a", "b"]);
    bench.put("shop", "{image: a, instances: 2}");
    bench.settle();
    bench.put("shop", "{image: b, instances: 2}");
    bench.settle();
    let each = |hosts: &[(&str, usize)]| -> BTreeMap<String, usize> {
        hosts.iter().map(|(host, count)| ((*host).to_owned(), *count)).collect()
    };
    assert_eq!(hosts_of(&bench, "shop"), each(&[("a", 2), ("b", 2)]), "one of each is kept");
    bench.put_host("a", DRAINING);
    bench.settle();
    assert_eq!(hosts_of(&bench, "shop"), each(&[("b", 3)]), "only there one is kept");

    bench.ask("shop", &Transition::RollBack { to: None, ending: ending("Test") });
    bench.settle();
    let served = bench.served_by("shop");
    assert!(served.iter().all(|id| id.starts_with("shop-1-") && id.ends_with("@b")), "{served:?}");
    assert_eq!(served.len(), 2, "and the other one is made anew");
}

#[test]
fn what_runs_stays_when_a_host_comes_and_converges_on_demand() {
    let mut bench = bench(&["a"]);
    for app in 0..10 {
        bench.put(&format!("app{app}"), "{image: a}");
    }
    bench.settle();
    bench.put_host("b", ENGINE);
    assert!(bench.settle().is_empty(), "nothing moves by itself");

    let drift = status::drift(None, bench.world());
    assert!((2..=8).contains(&drift.len()), "about half of them: {drift:?}");
    let apps: Vec<_> = drift.iter().map(|drift| bench.app(&drift.app)).collect();
    bench.tell(Event::ConvergeWanted(apps.clone()));
    let log = bench.settle();
    for app in &apps {
        let at = |step: String| log.iter().position(|line| *line == step).expect(&step);
        let removed = at(format!("remove {app}-1-0@a"));
        assert!(at(format!("start {app}-1-0@b")) < removed, "start first: {log:?}");
    }
    assert_eq!(log.len(), 3 * apps.len(), "and nothing else: {log:?}");
    assert_eq!(status::drift(None, bench.world()), []);

    // It was asked for once, not for ever.
    bench.put_host("c", ENGINE);
    assert!(bench.settle().is_empty());
}

#[test]
fn a_drained_host_is_left_start_first_and_gets_nothing_new() {
    let mut bench = bench(&["a", "b"]);
    bench.put("shop", "{image: a, instances: 2}");
    bench.settle();
    bench.put_host("a", DRAINING);
    let moves = bench.turn();
    assert!(moves, "the new one is made");
    assert_eq!(bench.served_by("shop").len(), 2, "both serve until it is ready");
    bench.settle();
    assert_eq!(hosts_of(&bench, "shop"), [("b".to_owned(), 2)].into());
    bench.put("new", "{image: a}");
    bench.settle();
    assert_eq!(host_of(&bench, "new"), "b");
}

#[test]
fn what_cannot_go_elsewhere_stays_on_a_draining_host() {
    let mut bench = bench(&["a"]);
    bench.put("shop", "{image: a}");
    bench.settle();
    bench.put_host("a", DRAINING);
    assert!(bench.settle().is_empty(), "no other host takes it");
    assert_eq!(bench.served_by("shop"), ["shop-1-0@a"]);
    bench.put("new", "{image: a}");
    assert!(bench.settle().is_empty());
    assert_eq!(bench.served_by("new"), ["unavailable"]);
}

#[test]
fn one_that_sleeps_moves_and_sleeps_on() {
    let mut bench = bench(&["a", "b"]);
    bench.put("shop", super::SLEEPY);
    bench.settle();
    bench.pass(seconds(61));
    bench.settle();
    let (host, other) = match host_of(&bench, "shop").as_str() {
        "a" => ("a", "b"),
        _ => ("b", "a"),
    };
    bench.put_host(host, DRAINING);
    let steps = ["create", "start", "pause"].map(|verb| format!("{verb} shop-1-0@{other}"));
    let [create, start, pause] = steps;
    let log = bench.settle();
    assert_eq!(log[..2], [create, start], "its copy is verified, though nobody asks for it");
    let rest: BTreeSet<_> = log[2..].iter().cloned().collect();
    assert_eq!(rest, [pause, format!("remove shop-1-0@{host}")].into());
    assert_eq!(bench.served_by("shop"), ["asleep"], "it sleeps all the time");
}

#[test]
fn a_lost_host_is_replaced_in_time_and_its_return_leaves_no_duplicate() {
    let mut bench = bench(&["a", "b"]);
    bench.put("shop", "{image: a, instances: 2}");
    bench.settle();
    lose(&mut bench, "a");
    assert!(bench.settle().is_empty());
    assert_eq!(bench.served_by("shop").len(), 1, "the other one serves alone");
    bench.pass(seconds(31));
    bench.silence("a");
    assert!(bench.settle().is_empty(), "while it is only disconnected nothing is replaced");
    bench.pass(seconds(31));
    bench.silence("a");
    let log = bench.settle();
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log.iter().all(|step| step.ends_with("@b")), "{log:?}");
    assert_eq!(bench.served_by("shop").len(), 2);
    assert!(bench.settle().is_empty());

    return_of(&mut bench, "a");
    let log = bench.settle();
    assert_eq!(log.len(), 1, "the one that was replaced goes, and nothing else: {log:?}");
    assert!(log[0].starts_with("remove") && log[0].ends_with("@a"), "{log:?}");
    assert_eq!(hosts_of(&bench, "shop"), [("b".to_owned(), 2)].into());
}

#[test]
fn a_host_that_returns_in_time_goes_on_as_if_nothing_had_happened() {
    let mut bench = bench(&["a", "b"]);
    bench.put("shop", "{image: a, instances: 2}");
    bench.settle();
    lose(&mut bench, "a");
    bench.settle();
    // Longer than an instance may take to be ready.
    bench.pass(seconds(59));
    bench.silence("a");
    bench.settle();
    return_of(&mut bench, "a");
    assert!(bench.settle().is_empty(), "neither ended nor made anew");
    assert_eq!(bench.served_by("shop").len(), 2);
}

#[test]
fn a_device_that_is_cut_off_is_not_replaced_however_long_and_goes_on_on_its_return() {
    // Ten minutes, and a summer.
    for away in [10 * 60, 90 * 24 * 3600] {
        let mut bench = bench(&["a"]);
        let device = |name: &str| {
            format!(
                "{{engine: device, labels: {{class: edge, device: {name}}}, \
                 disconnect: {{replace: false}}}}"
            )
        };
        bench.put_host("pi", &device("pi"));
        bench.put_host("other", &device("other"));
        bench.put("shop", "{image: a, placement: {hosts: {class: edge}}}");
        bench.settle();
        let host = host_of(&bench, "shop");
        lose(&mut bench, &host);
        // It is looked at now and then, as a silent host is.
        for _ in 0..10 {
            bench.pass(seconds(away / 10));
            bench.silence(&host);
            assert!(bench.settle().is_empty(), "nothing is done, here or elsewhere");
        }
        assert_eq!(bench.served_by("shop"), ["unavailable"]);
        return_of(&mut bench, &host);
        assert!(bench.settle().is_empty(), "neither ended nor made anew");
        assert_eq!(host_of(&bench, "shop"), host);
        assert_eq!(bench.served_by("shop").len(), 1);
    }
}

#[test]
fn a_replacement_that_is_not_ready_yet_gives_way_to_the_one_that_returns() {
    let mut bench = bench(&["a", "b"]);
    bench.put("shop", "{image: slow, instances: 2}");
    bench.settle();
    lose(&mut bench, "a");
    bench.settle();
    bench.pass(seconds(62));
    bench.broken.push("slow");
    bench.silence("a");
    let log = bench.settle();
    assert_eq!(log.len(), 2, "{log:?}");
    bench.broken.clear();
    // The replacement on b needs a while yet.
    let replacement = log[0].strip_prefix("create ").unwrap().to_owned();
    let id = bench.instance(&replacement);
    bench.images.insert(id, "slower".to_owned());
    bench.broken.push("slower");
    return_of(&mut bench, "a");
    assert_eq!(bench.settle(), [format!("remove {replacement}")]);
    assert_eq!(hosts_of(&bench, "shop"), [("a".to_owned(), 1), ("b".to_owned(), 1)].into());
}

#[test]
fn capacity_labels_regions_and_shards_say_where() {
    let mut bench = bench(&[]);
    let unix = "engine: \"unix:///e\"";
    bench.put_host("small", &format!("{{{unix}, capacity: {{instances: 1}}, labels: {{d: s}}}}"));
    bench.put_host("big", &format!("{{{unix}, region: eu, labels: {{d: s, disk: fast}}}}"));
    bench.put_host("other", &format!("{{{unix}, region: us, capacity: {{memory: 100MiB}}}}"));
    bench.put_shard("s", "{hosts: {d: s}}");

    bench.put("labelled", "{image: a, instances: 2, placement: {hosts: {disk: fast}}}");
    bench.put("regional", "{image: a, placement: {region: us}, resources: {memory: 60MiB}}");
    bench.put("sharded", "{image: a, instances: 3, placement: {shard: s}}");
    bench.settle();
    assert_eq!(hosts_of(&bench, "labelled"), [("big".to_owned(), 2)].into());
    assert_eq!(host_of(&bench, "regional"), "other");
    let sharded = [("big".to_owned(), 2), ("small".to_owned(), 1)].into();
    assert_eq!(hosts_of(&bench, "sharded"), sharded, "one host has room for one");

    bench.put("more", "{image: a, placement: {region: us}, resources: {memory: 60MiB}}");
    bench.put("nowhere", "{image: a, placement: {region: asia}}");
    assert!(bench.settle().is_empty());
    let why = |app: &str| {
        let app = &bench.world().desired.apps[&bench.app(app)];
        let status =
            status::app_status(app, bench.world(), &bench.activity, Moment(2_000_000), 443);
        status.conditions[0].message.clone()
    };
    assert_eq!(why("more"), "no host that it may run on has room");
    assert_eq!(why("nowhere"), "no host is one of those that its `placement` asks for");
}

/// However the hosts' order has it: of apps that demand two regions, each is in both.
#[test]
fn an_app_that_demands_two_regions_has_them_as_soon_as_there_are_two() {
    let mut bench = bench(&[]);
    for (host, region) in [("eu1", "eu"), ("eu2", "eu"), ("us", "us")] {
        bench.put_host(host, &format!("{{engine: \"unix:///e\", region: {region}}}"));
    }
    let apps: Vec<_> = (0..8).map(|app| format!("app{app}")).collect();
    for app in &apps {
        bench.put(app, "{image: a, instances: 2, placement: {regions: 2}}");
    }
    let in_us = |bench: &Bench, app: &str| hosts_of(bench, app).get("us").copied();
    bench.settle();
    apps.iter().for_each(|app| assert_eq!(in_us(&bench, app), Some(1), "{app}"));
    assert!(bench.settle().is_empty());

    lose(&mut bench, "us");
    bench.settle();
    bench.pass(seconds(62));
    bench.silence("us");
    bench.settle();
    for app in &apps {
        let served = bench.served_by(app);
        assert!(served.len() == 2 && served.iter().all(|id| !id.ends_with("@us")), "{served:?}");
    }

    return_of(&mut bench, "us");
    bench.settle();
    bench.tell(Event::EngineAnswered("us".parse().unwrap()));
    bench.settle();
    for app in &apps {
        assert_eq!((in_us(&bench, app), bench.served_by(app).len()), (Some(1), 2), "{app}");
    }
    assert!(bench.settle().is_empty(), "it rests");
}

#[test]
fn a_new_deployment_is_placed_although_the_former_one_fills_the_host() {
    let mut bench = bench(&[]);
    bench.put_host("a", "{engine: \"unix:///e\", capacity: {instances: 2}}");
    bench.put("shop", "{image: a, instances: 2}");
    bench.settle();
    bench.put("shop", "{image: b, instances: 2}");
    bench.settle();
    let expected: BTreeSet<_> = ["shop-2-0@a", "shop-2-1@a"].map(str::to_owned).into();
    assert_eq!(bench.served_by("shop").into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn what_has_a_volume_stays_with_it() {
    let mut bench = bench(&["a", "b"]);
    bench.put("db", "{image: a, volumes: [\"data:/data\"]}");
    bench.settle();
    let host = host_of(&bench, "db");
    bench.put_host(&host, DRAINING);
    assert!(bench.settle().is_empty(), "its data does not move");
    bench.put("db", "{image: b, volumes: [\"data:/data\"], rollout: {keep: 0s}}");
    bench.settle();
    assert_eq!(host_of(&bench, "db"), host, "nor does a new deployment of it");
}

#[test]
fn what_a_device_says_that_it_has_counts_only_of_apps_that_may_run_there() {
    let mut bench = Bench::new();
    bench.put("bank", "{image: a, sleep: {pause_after: 1h, stop_after: null, min_awake: 0s}}");
    bench.settle();
    let bank = bench.engine.values().find(|c| *c.instance.app == *"bank").unwrap().clone();
    let served = bench.served_by("bank");

    // Asleep, as only what has been ready is; then running, and wanted by nobody.
    let mut claimed = bank.clone();
    claimed.instance.host = "pi".parse().unwrap();
    claimed.state = ContainerState::Paused;
    bench.engine.insert(claimed.instance.clone(), claimed.clone());
    bench.put_host("pi", "{engine: device, labels: {class: edge}}");
    bench.settle();
    claimed.state = ContainerState::Running;
    let (began, instance) = (bench.now, claimed.instance.clone());
    bench.tell(Event::ContainerSeen { instance, container: Some(claimed.clone()), began });
    bench.settle();
    assert_eq!(bench.observed().instances.keys().collect::<Vec<_>>(), [&bank.instance]);
    assert_eq!(bench.served_by("bank"), served);
    assert_eq!(bench.engine[&bank.instance], bank, "it was not touched");
    bench.engine.remove(&claimed.instance);

    // What may run there counts, and what control has put there does until it has left.
    bench.put("kiosk", "{image: a, placement: {hosts: {class: edge}}}");
    bench.settle();
    assert_eq!(host_of(&bench, "kiosk"), "pi");
    bench.put("kiosk", "{image: a}");
    bench.list_host(&claimed.instance.host);
    bench.settle();
    assert_eq!(host_of(&bench, "kiosk"), "local");
}
