//! How one deployment replaces another, checked.

use std::time::Duration;

use crate::{Problem, Problems, RolloutSpec, Strategy};

#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    pub strategy: Strategy,
    pub deadline: Duration,
    pub drain: Duration,
    pub stop_grace: Duration,
    /// Percentages, from 1 to 99, growing; at least one.
    pub steps: Vec<u8>,
    pub step_for: Duration,
    pub gates: Gates,
    pub auto_rollback: bool,
    /// Zero for not at all.
    pub bake: Duration,
    /// Zero for not at all.
    pub keep: Duration,
}

/// What the answers of a new deployment must keep to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates {
    /// From 0 to 1.
    pub max_error_rate: Option<f64>,
    /// Of the 99th percentile.
    pub max_latency: Option<Duration>,
}

impl Default for Rollout {
    /// What is meant when nothing is written, or what was written is gone with its app.
    fn default() -> Self {
        Self::from(&RolloutSpec::default())
    }
}

impl From<&RolloutSpec> for Rollout {
    fn from(spec: &RolloutSpec) -> Self {
        Self {
            strategy: spec.strategy,
            deadline: spec.deadline.0,
            drain: spec.drain.0,
            stop_grace: spec.stop_grace.0,
            steps: spec.steps.clone(),
            step_for: spec.step_for.0,
            gates: Gates {
                max_error_rate: spec.max_error_rate,
                max_latency: spec.max_latency.map(|span| span.0),
            },
            auto_rollback: spec.auto_rollback,
            bake: spec.bake.0,
            keep: spec.keep.0,
        }
    }
}

/// More would take days.
const MAX_STEPS: usize = 20;

pub(super) fn rollout(spec: &RolloutSpec, problems: &mut Problems) -> Rollout {
    let steps = &spec.steps;
    let grow = steps.windows(2).all(|pair| pair[0] < pair[1]);
    let in_range = steps.iter().all(|step| (1..=99).contains(step));
    if !(grow && in_range && (1..=MAX_STEPS).contains(&steps.len())) {
        let message = format!("write 1 to {MAX_STEPS} growing percentages from 1 to 99");
        problems.push(Problem::new("/spec/rollout/steps", "out_of_range", message));
    }
    if spec.max_error_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
        let message = "a part from 0 to 1, such as 0.05 for one answer in twenty";
        problems.push(Problem::new("/spec/rollout/max_error_rate", "out_of_range", message));
    }
    Rollout::from(spec)
}
