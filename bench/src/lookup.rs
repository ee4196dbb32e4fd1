//! How long the proxy takes to find an app by its host name.

use std::{hint::black_box, sync::Arc, time::Instant};

use weir_config::{Activity, AppName, AppRoute, HostPath, RouteState, Snapshot};

use crate::report::Report;

const NAMES: usize = 100_000;
const ROUNDS: usize = 9;

pub(crate) fn measure(report: &mut Report) {
    let activity = Activity::default();
    let mut snapshot = Snapshot::empty(1, 1, std::sync::Arc::default());
    for i in 0..NAMES {
        snapshot.insert(route(
            &format!("app-{i}"),
            &format!("app-{i}.apps.example.com"),
            &activity,
        ));
    }
    snapshot.insert(route("wide", "*.wide.example.com", &activity));
    // A stride that visits the names in an order that no cache foresees.
    let exact: Vec<_> =
        (0..NAMES).map(|i| format!("app-{}.apps.example.com", i * 7919 % NAMES)).collect();
    let wild: Vec<_> = (0..NAMES).map(|i| format!("any-{i}.wide.example.com")).collect();
    let unknown: Vec<_> = (0..NAMES).map(|i| format!("none-{i}.other.example.net")).collect();
    for (kind, hosts) in [("exact name", exact), ("wildcard", wild), ("unknown name", unknown)] {
        let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| nanoseconds(&snapshot, &hosts)).collect();
        rounds.sort_by(f64::total_cmp);
        let name = format!("host look-up among {NAMES}: {kind}");
        report.figure(&name, rounds[ROUNDS / 2], "ns", "<= 200");
    }
}

fn nanoseconds(snapshot: &Snapshot, hosts: &[String]) -> f64 {
    let began = Instant::now();
    for host in hosts {
        black_box(snapshot.route(black_box(host), "/"));
    }
    began.elapsed().as_nanos() as f64 / hosts.len() as f64
}

fn route(app: &str, hostname: &str, activity: &Activity) -> AppRoute {
    let (Ok(app), Ok(hostname)) = (app.parse::<AppName>(), hostname.parse::<HostPath>()) else {
        unreachable!("{app} and {hostname} are valid names");
    };
    let (wake_timeout, queue) = AppRoute::wait_of(None);
    AppRoute {
        activity: activity.app(&app),
        app,
        hostnames: vec![hostname],
        state: RouteState::Starting,
        policy: Arc::default(),
        wake_timeout,
        queue,
    }
}
