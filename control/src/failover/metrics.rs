//! What is measured of failover. Its shares, and what targets answer, the proxy measures.

use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use weir_config::FailoverPolicy;
use weir_failover::{Figures, Health};

/// Clones share the numbers.
#[derive(Clone, Debug)]
pub(crate) struct FailoverMetrics {
    health: IntGaugeVec,
    decisions: IntCounterVec,
    transitions: IntCounterVec,
    took: HistogramVec,
}

const HEALTHS: [(Health, &str); 6] = [
    (Health::Unknown, "unknown"),
    (Health::Up, "up"),
    (Health::Suspected, "suspected"),
    (Health::Doubted, "doubted"),
    (Health::Mending, "mending"),
    (Health::Down, "down"),
];
/// In seconds: from what a change in memory takes to what a slow law does.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 30.0];

impl FailoverMetrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let health = Opts::new(
            "weir_failover_target_health",
            "1 for what the vantages together say of a target, 0 for all else.",
        );
        let decisions = Opts::new("weir_failover_decisions_total", "What was decided.");
        let transitions =
            Opts::new("weir_failover_transitions_total", "Changes of what is to be served.");
        let took = HistogramOpts::new(
            "weir_failover_duration_seconds",
            "How long each stage of a failover took.",
        );
        Ok(Self {
            health: IntGaugeVec::new(health, &["policy", "target", "health"])?,
            decisions: IntCounterVec::new(decisions, &["policy", "decision"])?,
            transitions: IntCounterVec::new(transitions, &["policy"])?,
            took: HistogramVec::new(took.buckets(BUCKETS.to_vec()), &["stage"])?,
        })
    }

    /// Takes down how the targets of a policy are, in its order.
    pub(super) fn look(&self, policy: &FailoverPolicy, healths: impl Iterator<Item = Health>) {
        for (target, is) in policy.targets.iter().zip(healths) {
            for (health, word) in HEALTHS {
                let labels = [&*policy.name, &*target.name, word];
                self.health.with_label_values(&labels).set(i64::from(is == health));
            }
        }
    }

    /// Counts a decision, by its word.
    pub(super) fn decided(&self, policy: &FailoverPolicy, decision: &str) {
        self.decisions.with_label_values(&[&*policy.name, decision]).inc();
    }

    /// Counts a change of what is to be served.
    pub(super) fn shifted(&self, policy: &FailoverPolicy) {
        self.transitions.with_label_values(&[&*policy.name]).inc();
    }

    /// Takes down how long a failover took that is over.
    pub(super) fn is_over(&self, figures: &Figures) {
        let Figures { to_decision, to_route, to_dns, .. } = figures;
        for (stage, took) in [("decision", to_decision), ("route", to_route), ("dns", to_dns)] {
            if let Some(took) = took {
                self.took.with_label_values(&[stage]).observe(Duration::as_secs_f64(took));
            }
        }
    }

    /// Lets go of a policy that is gone, or has other targets.
    pub(super) fn forget(&self, policy: &FailoverPolicy) {
        for target in &policy.targets {
            for (_, word) in HEALTHS {
                // There may be none of it yet.
                let labels = [&*policy.name, &*target.name, word];
                let _ = self.health.remove_label_values(&labels);
            }
        }
    }
}

impl Collector for FailoverMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let counters = [self.decisions.desc(), self.transitions.desc()].concat();
        [self.health.desc(), counters, self.took.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counters = [self.decisions.collect(), self.transitions.collect()].concat();
        [self.health.collect(), counters, self.took.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_documented() {
        let text = include_str!("../../../docs/observability.md");
        let metrics = FailoverMetrics::new().unwrap();
        for desc in metrics.desc() {
            let row =
                text.lines().find(|line| line.starts_with(&format!("| `{}` |", desc.fq_name)));
            let row = row.unwrap_or_else(|| panic!("{} is not documented", desc.fq_name));
            for label in &desc.variable_labels {
                assert!(row.contains(&format!("`{label}`")), "{row}: {label}");
            }
        }
    }

    #[test]
    fn a_target_is_in_one_state_and_one_that_is_gone_in_none() {
        let text = "{kind: FailoverPolicy, name: shop, spec: {hostnames: [shop.example],
            targets: [{name: a, cdn: a.example}, {name: b, cdn: b.example}]}}";
        let value = weir_config::parse_documents(text).unwrap()[0].value.clone();
        let (_, policy) = FailoverPolicy::read(value).unwrap();
        let metrics = FailoverMetrics::new().unwrap();
        for a in [Health::Up, Health::Down] {
            metrics.look(&policy, [a, Health::Up].into_iter());
            let of = |target, word| metrics.health.with_label_values(&["shop", target, word]).get();
            let sum: i64 = HEALTHS.iter().map(|(_, word)| of("a", word)).sum();
            assert_eq!((of("a", "down"), sum), (i64::from(a == Health::Down), 1));
        }
        metrics.forget(&policy);
        let left: usize = metrics.health.collect().iter().map(|m| m.get_metric().len()).sum();
        assert_eq!(left, 0);
    }
}
