//! Each rule by which something is wrong, in worlds in which it is.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use weir_config::{HostName, Severity};
use weir_deploy::ProviderError;

use super::{SLEEPY, awake_bench, bench::Bench, seconds};
use crate::{
    event::Event,
    gate::{Cause, Refusal},
    incidents::{
        Rule,
        rules::{Surroundings, troubles},
    },
    subject::Subject,
};

const CALM: Surroundings = Surroundings { store_is_full: false, wall_clock: 0 };

/// What is wrong, by its rule and its subject.
fn wrong(bench: &Bench) -> Vec<(Rule, Severity, String)> {
    wrong_in(bench, CALM)
}

fn wrong_in(bench: &Bench, around: Surroundings) -> Vec<(Rule, Severity, String)> {
    let troubles = troubles(bench.world(), around, bench.now);
    troubles.into_iter().map(|t| (t.rule, t.severity, t.subject)).collect()
}

fn of_shop(rule: Rule, severity: Severity) -> Vec<(Rule, Severity, String)> {
    vec![(rule, severity, "App/shop".to_owned())]
}

#[test]
fn in_a_world_at_ease_or_asleep_nothing_is_wrong() {
    let mut bench = awake_bench();
    bench.put("legacy", "{upstreams: [\"10.1.0.1:80\"]}");
    bench.settle();
    assert_eq!(wrong(&bench), []);
    bench.pass(seconds(3600));
    bench.settle();
    assert_eq!(wrong(&bench), []);
}

#[test]
fn a_deployment_that_does_not_get_ready_is_graver_when_nothing_serves() {
    let mut bench = Bench::new();
    bench.broken.push("b");
    bench.put("shop", "{image: b, rollout: {deadline: 30s}}");
    bench.settle();
    assert_eq!(wrong(&bench), [], "it has time");
    bench.pass(seconds(31));
    bench.settle();
    assert_eq!(wrong(&bench), of_shop(Rule::DeploymentFailed, Severity::Critical));

    let mut bench = awake_bench();
    bench.broken.push("b");
    bench.put("shop", "{image: b, rollout: {deadline: 30s}}");
    bench.settle();
    bench.pass(seconds(31));
    bench.settle();
    assert_eq!(wrong(&bench), of_shop(Rule::DeploymentFailed, Severity::Warning));
    bench.put("shop", "{image: c}");
    bench.settle();
    assert_eq!(wrong(&bench), []);
}

#[test]
fn a_process_that_gets_ready_and_crashes_again_and_again_is_a_loop() {
    let mut bench = Bench::new();
    bench.put("shop", "{image: a}");
    bench.settle();
    for round in 0..3 {
        assert_eq!(wrong(&bench), [], "crashed {round} times");
        bench.crash("shop-1-0", 1);
        bench.settle();
        bench.engine_restarts("shop-1-0");
        bench.settle();
    }
    assert_eq!(wrong(&bench), of_shop(Rule::CrashLoop, Severity::Warning), "it serves just now");
    bench.pass(seconds(601));
    bench.settle();
    assert_eq!(wrong(&bench), []);
}

#[test]
fn an_app_that_nothing_serves_is_told_of() {
    let mut bench = Bench::new();
    bench.put("shop", "{upstreams: [\"10.1.0.1:80\"]}");
    bench.put_shard("east", "{members: [{name: a, address: \"10.2.0.1:80\"}]}");
    bench.put("sites", "{shards: [east]}");
    bench.settle();
    assert_eq!(wrong(&bench), []);
    bench.down = vec!["10.1.0.1:80"];
    bench.settle();
    assert_eq!(wrong(&bench), of_shop(Rule::AppUnhealthy, Severity::Critical));
    bench.down = vec!["10.2.0.1:80"];
    bench.settle();
    assert_eq!(wrong(&bench), [(Rule::AppUnhealthy, Severity::Critical, "App/sites".to_owned())]);
}

#[test]
fn of_a_host_that_is_away_one_thing_is_told_and_not_what_follows_from_it() {
    let mut bench = awake_bench();
    bench.put("legacy", "{upstreams: [\"10.1.0.1:80\"]}");
    bench.settle();
    let silence = || {
        let (endpoint, reason) = ("/nowhere".to_owned(), "connection refused".to_owned());
        let error = ProviderError::Unreachable { endpoint, reason };
        Event::EngineDown { host: HostName::local(), error }
    };
    bench.tell(silence());
    assert_eq!(wrong(&bench), [], "it may be starting anew");
    bench.pass(seconds(45));
    bench.tell(silence());
    bench.down = vec!["10.1.0.1:80"];
    bench.settle();
    let (host, app) = ("Host/local".to_owned(), "App/legacy".to_owned());
    assert_eq!(
        wrong(&bench),
        [(Rule::HostLost, Severity::Critical, host), (Rule::AppUnhealthy, Severity::Critical, app)],
        "an upstream is on no host"
    );
}

#[test]
fn an_app_that_does_not_wake_is_told_of() {
    let mut bench = Bench::new();
    bench.put("shop", SLEEPY);
    bench.settle();
    bench.pass(seconds(3600));
    bench.settle();
    bench.broken.push("a");
    bench.wake("shop");
    bench.settle();
    assert_eq!(wrong(&bench), [], "it has time");
    bench.pass(seconds(61));
    bench.settle();
    assert_eq!(wrong(&bench), of_shop(Rule::WakeFailed, Severity::Critical));
}

#[test]
fn what_is_not_served_is_told_of_by_its_cause_and_a_loss_once() {
    let mut bench = awake_bench();
    let until = bench.now + seconds(60);
    let causes = [
        ("a", Cause::Broken, Rule::SnapshotRefused, "App/a"),
        ("b", Cause::Quarantined { until }, Rule::SnapshotQuarantined, "App/b"),
        ("c", Cause::Held { until }, Rule::SnapshotHeld, "Snapshot"),
    ];
    for (app, cause, rule, subject) in causes {
        let refusal = Refusal { cause, message: "because".to_owned(), since: bench.now };
        let refusals = [(Subject::App(bench.app(app)), refusal)];
        bench.reconciler.world.refusals = refusals.into_iter().collect();
        assert_eq!(wrong(&bench), [(rule, Severity::Critical, subject.to_owned())]);
    }
}

#[test]
fn what_cannot_be_read_or_written_and_a_certificate_that_ends_are_told_of() {
    let mut bench = awake_bench();
    let gone = bench.app("shop");
    bench.change(|change| _ = change.unreadable.insert(gone));
    bench.settle();
    assert_eq!(wrong(&bench), of_shop(Rule::ObjectUnreadable, Severity::Warning));

    let mut bench = awake_bench();
    let full = Surroundings { store_is_full: true, ..CALM };
    assert_eq!(wrong_in(&bench, full), [(Rule::StoreFull, Severity::Critical, "Store".to_owned())]);

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["test.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2030, 1, 31);
    let chain = params.self_signed(&key).unwrap().pem();
    bench.show([Arc::new(crate::certificates::parse(&chain, &key.serialize_pem()).unwrap())]);
    bench.settle();
    let ends = params.not_after.unix_timestamp();
    let at = |days: i64| Surroundings { wall_clock: ends - days * 24 * 3600, ..CALM };
    let subject = "Certificate/test.example".to_owned();
    assert_eq!(wrong_in(&bench, at(22)), []);
    let soon = (Rule::CertificateExpiring, Severity::Warning, subject.clone());
    assert_eq!(wrong_in(&bench, at(20)), [soon]);
    let now = (Rule::CertificateExpiring, Severity::Critical, subject);
    assert_eq!(wrong_in(&bench, at(2)), [now]);
}
