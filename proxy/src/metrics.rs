//! Metrics, rendered when they are asked for out of the counters that requests write.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus::{
    core::{Collector, Desc},
    proto::{Metric, MetricFamily, MetricType},
};
use weir_config::{
    Activity, Answers, AppActivity, HistogramReading, Incident, Moment, SleepLevel, Snapshot,
    Snapshots, Steered, SteeredTarget, UpstreamConnection, WHOLE,
    exposition::{Family, counter, describe, family, gauge, histogram},
};

use crate::{
    access_log::AccessLog,
    listen::{Connections, Dropped, Port},
    pages::Refusal,
    tls::{EarlyWake, EarlyWakes},
};

/// The data plane's metrics. An app's are left out as long as they are zero: thousands of apps
/// that sleep cost a scrape nothing.
#[derive(Clone, Debug)]
pub struct ProxyMetrics {
    snapshots: Snapshots,
    activity: Arc<Activity>,
    unrouted: Arc<Unrouted>,
    connections: Arc<Connections>,
    early_wake: Arc<EarlyWake>,
    access_log: Option<AccessLog>,
    descriptions: Vec<Desc>,
}

/// Requests that belong to no app.
#[derive(Debug, Default)]
pub(crate) struct Unrouted {
    redirects: AtomicU64,
    bad_host: AtomicU64,
    unknown_host: AtomicU64,
    misdirected: AtomicU64,
}

impl Unrouted {
    pub(crate) fn count(&self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::BadHost => &self.bad_host,
            Refusal::UnknownHost(_) => &self.unknown_host,
            Refusal::Misdirected => &self.misdirected,
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_redirect(&self) {
        self.redirects.fetch_add(1, Relaxed);
    }
}

const REQUESTS: Family = (
    "weir_requests_total",
    "Answered requests by app and class of status.",
    &["app", "code"],
    MetricType::COUNTER,
);
const DURATION: Family = (
    "weir_request_duration_seconds",
    "Time from a request's header to the end of its answer, by app.",
    &["app"],
    MetricType::HISTOGRAM,
);
const WAKE: Family = (
    "weir_wake_duration_seconds",
    "Time from the arrival to the release of a request that woke its app or waited for it to wake.",
    &["app", "from"],
    MetricType::HISTOGRAM,
);
const IN_FLIGHT: Family = (
    "weir_requests_in_flight",
    "Requests under way by app, held ones and WebSockets included.",
    &["app"],
    MetricType::GAUGE,
);
const HELD: Family = (
    "weir_requests_held",
    "Requests that wait for their app to be awake.",
    &["app"],
    MetricType::GAUGE,
);
const UPSTREAM_CONNECTIONS: Family = (
    "weir_upstream_connections_total",
    "Requests' ways to an instance by app: over a new connection, a reused one, or failed.",
    &["app", "outcome"],
    MetricType::COUNTER,
);
const REFUSED: Family = (
    "weir_requests_refused_total",
    "Requests that an app's limits turned away, by app and limit.",
    &["app", "limit"],
    MetricType::COUNTER,
);
const RETRIES: Family = (
    "weir_retries_total",
    "Requests that were sent again, or not because the budget was spent, by app.",
    &["app", "outcome"],
    MetricType::COUNTER,
);
const EJECTIONS: Family = (
    "weir_ejections_total",
    "Times that an instance or member got no more requests because it failed, by app.",
    &["app"],
    MetricType::COUNTER,
);
const EJECTED: Family = (
    "weir_endpoint_ejected",
    "Instances and members that get no requests because they failed.",
    &["endpoint"],
    MetricType::GAUGE,
);
const SHARES: Family = (
    "weir_failover_share",
    "The part of its clients that a target of a failover policy gets.",
    &["policy", "target"],
    MetricType::GAUGE,
);
const TARGET_ANSWERS: Family = (
    "weir_failover_answers_total",
    "Requests to the present addresses of a failover policy's targets, by what came of them.",
    &["policy", "target", "outcome"],
    MetricType::COUNTER,
);
const UNROUTED: Family = (
    "weir_requests_unrouted_total",
    "Requests that belong to no app, by reason.",
    &["reason"],
    MetricType::COUNTER,
);
const LOG_DROPPED: Family = (
    "weir_access_log_dropped_lines_total",
    "Lines of the access log that nobody took in time.",
    &[],
    MetricType::COUNTER,
);
const CONNECTIONS: Family = (
    "weir_connections_open",
    "Connections of clients, by the listener that they came to.",
    &["listener"],
    MetricType::GAUGE,
);
const ACCEPTED: Family = (
    "weir_connections_accepted_total",
    "Connections that clients made, by listener, refused ones included.",
    &["listener"],
    MetricType::COUNTER,
);
const DROPPED: Family = (
    "weir_connections_dropped_total",
    "Connections of clients that were closed before their time, by reason.",
    &["reason"],
    MetricType::COUNTER,
);
const SPECULATIVE_WAKES: Family = (
    "weir_speculative_wakes_total",
    "Wakes at the begin of a handshake: issued, and of these used by a request in time or wasted; \
      or refused, by a budget or because of former waste.",
    &["event"],
    MetricType::COUNTER,
);
const GENERATION: Family =
    ("weir_snapshot_generation", "The generation served.", &[], MetricType::GAUGE);
const HOSTS: Family = ("weir_hosts", "Host names served.", &[], MetricType::GAUGE);

const FAMILIES: [Family; 20] = [
    REQUESTS,
    DURATION,
    WAKE,
    IN_FLIGHT,
    HELD,
    UPSTREAM_CONNECTIONS,
    REFUSED,
    RETRIES,
    EJECTIONS,
    EJECTED,
    SHARES,
    TARGET_ANSWERS,
    UNROUTED,
    CONNECTIONS,
    ACCEPTED,
    DROPPED,
    SPECULATIVE_WAKES,
    LOG_DROPPED,
    GENERATION,
    HOSTS,
];

impl ProxyMetrics {
    pub(crate) fn new(
        snapshots: Snapshots,
        activity: Arc<Activity>,
        unrouted: Arc<Unrouted>,
        connections: Arc<Connections>,
        early_wake: Arc<EarlyWake>,
        access_log: Option<AccessLog>,
    ) -> Self {
        let descriptions = describe(&FAMILIES);
        Self { snapshots, activity, unrouted, connections, early_wake, access_log, descriptions }
    }

    fn log_dropped(&self) -> Vec<Metric> {
        self.access_log.iter().map(|log| counter(&[], log.dropped())).collect()
    }
}

impl Collector for ProxyMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let apps = self.activity.apps();
        let snapshot = self.snapshots.current();
        let per_app = |metrics: fn(&str, &AppActivity) -> Vec<Metric>| {
            apps.iter().flat_map(|(app, activity)| metrics(app, activity)).collect()
        };
        vec![
            family(REQUESTS, per_app(requests)),
            family(DURATION, per_app(duration)),
            family(WAKE, per_app(wake)),
            family(
                IN_FLIGHT,
                per_app(|app, activity| gauge_unless_zero(&[("app", app)], activity.in_flight())),
            ),
            family(
                HELD,
                per_app(|app, activity| gauge_unless_zero(&[("app", app)], activity.held())),
            ),
            family(UPSTREAM_CONNECTIONS, per_app(upstream_connections)),
            family(REFUSED, per_app(refused)),
            family(RETRIES, per_app(retries)),
            family(EJECTIONS, per_app(ejections)),
            family(EJECTED, self.ejected()),
            family(SHARES, per_target(&snapshot, share)),
            family(TARGET_ANSWERS, per_target(&snapshot, target_answers)),
            family(UNROUTED, self.unrouted.metrics()),
            family(CONNECTIONS, per_listener(|port| self.connections.open(port) as f64, gauge)),
            family(ACCEPTED, per_listener(|port| self.connections.accepted(port), counter)),
            family(DROPPED, dropped(&self.connections)),
            family(SPECULATIVE_WAKES, speculative_wakes(self.early_wake.counts())),
            family(LOG_DROPPED, self.log_dropped()),
            family(GENERATION, vec![gauge(&[], snapshot.generation as f64)]),
            family(HOSTS, vec![gauge(&[], snapshot.host_count() as f64)]),
        ]
    }
}

impl ProxyMetrics {
    fn ejected(&self) -> Vec<Metric> {
        let (endpoints, now) = (self.activity.endpoints(), Moment::now());
        let ejected = endpoints.iter().filter(|(_, activity)| activity.is_ejected(now));
        ejected.map(|(id, _)| gauge(&[("endpoint", &id.to_string())], 1.0)).collect()
    }
}

impl Unrouted {
    fn metrics(&self) -> Vec<Metric> {
        let reasons = [
            ("redirected", &self.redirects),
            ("bad_host", &self.bad_host),
            ("unknown_host", &self.unknown_host),
            ("misdirected", &self.misdirected),
        ];
        let count =
            |(reason, count): (_, &AtomicU64)| counter(&[("reason", reason)], count.load(Relaxed));
        reasons.into_iter().map(count).collect()
    }
}

fn per_target(
    snapshot: &Snapshot,
    metrics: fn(&Steered, usize, &SteeredTarget) -> Vec<Metric>,
) -> Vec<Metric> {
    let of_policy = |steered: &Arc<Steered>| {
        let targets = steered.targets.iter().enumerate();
        targets.flat_map(|(place, target)| metrics(steered, place, target)).collect::<Vec<_>>()
    };
    snapshot.policies().flat_map(of_policy).collect()
}

fn share(steered: &Steered, place: usize, target: &SteeredTarget) -> Vec<Metric> {
    let labels = [("policy", &*steered.policy), ("target", &*target.name)];
    let share = f64::from(steered.steering.shares.of(place)) / f64::from(WHOLE);
    vec![gauge(&labels, share)]
}

fn target_answers(steered: &Steered, _: usize, target: &SteeredTarget) -> Vec<Metric> {
    let mut answers = Answers::default();
    for endpoint in target.pool.endpoints() {
        answers += endpoint.activity.answers();
    }
    let failed = answers.failures - answers.unanswered.min(answers.failures);
    let of = |(outcome, count)| {
        let (policy, target) = (&*steered.policy, &*target.name);
        counter_unless_zero(&[("policy", policy), ("target", target), ("outcome", outcome)], count)
    };
    let good = answers.total().saturating_sub(answers.failures);
    let outcomes = [("answered", good), ("failed", failed), ("unanswered", answers.unanswered)];
    outcomes.into_iter().flat_map(of).collect()
}

fn per_listener<N>(
    read: impl Fn(Port) -> N,
    metric: fn(&[(&str, &str)], N) -> Metric,
) -> Vec<Metric> {
    Port::ALL.map(|port| metric(&[("listener", port.as_str())], read(port))).into()
}

fn speculative_wakes(counts: EarlyWakes) -> Vec<Metric> {
    let EarlyWakes { issued, used, wasted, refused } = counts;
    [("issued", issued), ("used", used), ("wasted", wasted), ("refused", refused)]
        .into_iter()
        .map(|(event, count)| counter(&[("event", event)], count))
        .collect()
}

fn dropped(connections: &Connections) -> Vec<Metric> {
    Dropped::ALL
        .map(|reason| counter(&[("reason", reason.as_str())], connections.dropped(reason)))
        .into()
}

fn requests(app: &str, activity: &AppActivity) -> Vec<Metric> {
    ["1xx", "2xx", "3xx", "4xx", "5xx"]
        .into_iter()
        .zip(activity.statuses())
        .filter(|(_, count)| *count > 0)
        .map(|(code, count)| counter(&[("app", app), ("code", code)], count))
        .collect()
}

fn upstream_connections(app: &str, activity: &AppActivity) -> Vec<Metric> {
    [
        ("new", UpstreamConnection::New),
        ("reused", UpstreamConnection::Reused),
        ("failed", UpstreamConnection::Failed),
    ]
    .into_iter()
    .map(|(outcome, connection)| (outcome, activity.connections(connection)))
    .filter(|(_, count)| *count > 0)
    .map(|(outcome, count)| counter(&[("app", app), ("outcome", outcome)], count))
    .collect()
}

fn duration(app: &str, activity: &AppActivity) -> Vec<Metric> {
    histogram_unless_empty(&[("app", app)], &activity.latency())
}

fn wake(app: &str, activity: &AppActivity) -> Vec<Metric> {
    let of = |level: SleepLevel| {
        histogram_unless_empty(&[("app", app), ("from", level.as_str())], &activity.wake(level))
    };
    [SleepLevel::Paused, SleepLevel::Stopped].into_iter().flat_map(of).collect()
}

fn refused(app: &str, activity: &AppActivity) -> Vec<Metric> {
    let limits = [
        ("rate", Incident::RateLimited),
        ("rate_per_client", Incident::ClientRateLimited),
        ("in_flight", Incident::Overloaded),
        ("body", Incident::BodyTooLarge),
    ];
    let of = |(limit, incident)| {
        counter_unless_zero(&[("app", app), ("limit", limit)], activity.counted(incident))
    };
    limits.into_iter().flat_map(of).collect()
}

fn retries(app: &str, activity: &AppActivity) -> Vec<Metric> {
    let outcomes = [("sent", Incident::Retry), ("denied", Incident::RetryDenied)];
    let of = |(outcome, incident)| {
        counter_unless_zero(&[("app", app), ("outcome", outcome)], activity.counted(incident))
    };
    outcomes.into_iter().flat_map(of).collect()
}

fn ejections(app: &str, activity: &AppActivity) -> Vec<Metric> {
    counter_unless_zero(&[("app", app)], activity.counted(Incident::Ejection))
}

fn counter_unless_zero(labels: &[(&str, &str)], count: u64) -> Vec<Metric> {
    (count > 0).then(|| counter(labels, count)).into_iter().collect()
}

fn gauge_unless_zero(labels: &[(&str, &str)], level: u64) -> Vec<Metric> {
    (level > 0).then(|| gauge(labels, level as f64)).into_iter().collect()
}

fn histogram_unless_empty(labels: &[(&str, &str)], reading: &HistogramReading) -> Vec<Metric> {
    (reading.count() > 0).then(|| histogram(labels, reading)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::documented;

    #[test]
    fn every_metric_is_documented_with_its_type_and_labels_and_no_other_is() {
        let kind = |kind: MetricType| format!("{kind:?}").to_lowercase();
        let here: BTreeSet<_> = FAMILIES
            .into_iter()
            .map(|(name, _, labels, of)| (name.to_owned(), kind(of), labels.join(", ")))
            .collect();
        let documented: BTreeSet<_> = documented::table("Metrics of the data plane")
            .into_iter()
            .map(|row| (row[0].clone(), row[1].clone(), row[2].replace('`', "")))
            .collect();
        assert_eq!(here, documented);
    }

    /// What `promtool check metrics` looks for.
    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for (name, help, labels, kind) in FAMILIES {
            assert!(name.starts_with("weir_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == MetricType::COUNTER, "{name}");
            assert_eq!(name.ends_with("_seconds"), kind == MetricType::HISTOGRAM, "{name}");
            for unit in
                ["_ms", "_millis", "_micros", "_kb", "_percent", "_count", "_sum", "_bucket"]
            {
                assert!(!name.ends_with(unit), "{name}");
            }
            assert!(help.ends_with('.') && !labels.contains(&"le"), "{name}");
            let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(plain(name) && labels.iter().all(|label| plain(label)), "{name}");
        }
    }
}
