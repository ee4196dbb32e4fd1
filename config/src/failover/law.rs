//! The numbers of the law of failover that an operator can set.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// More targets than this are a load to balance, not alternatives to each other.
pub const MAX_TARGETS: usize = 8;

/// By what law the shares of some targets change.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverLaw {
    /// From the most preferred to the least; 1 to [`MAX_TARGETS`].
    pub targets: Vec<TargetLaw>,
    pub sharing: Sharing,
    pub degraded: DegradedLimits,
    /// How long a target that was left stays out the first time. It doubles with each time within
    /// an hour, up to half an hour.
    pub hold_down: Duration,
    /// The percentages by which a target comes back before it has its whole share: growing, from
    /// 1 to 99.
    pub steps: Vec<u8>,
    /// How long each step takes at least.
    pub step_for: Duration,
    pub gate: Gate,
    pub all_down: AllDown,
    pub ttl: Ttl,
}

/// What the law has to know of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetLaw {
    /// Its share beside the others', where they share by weight; at least 1.
    pub weight: u16,
    /// Requests per second that it never gets more of; `None` if it takes whatever comes.
    pub capacity: Option<u32>,
}

/// How targets that are all well share the clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// The first one gets all; the others stand by, in this order.
    #[default]
    Ordered,
    /// All get some, by their weights.
    Weighted,
}

/// From when on a target that answers is not good enough, if another is better.
#[derive(Clone, Debug, PartialEq)]
pub struct DegradedLimits {
    /// The part of its answers that fail, from 0 to 1, and at least twice the alternative's.
    pub error_rate: f64,
    /// The 95th percentile of its times, and at least twice the alternative's.
    pub latency: Duration,
}

/// What the answers of a target that comes back have to keep to, before it gets more.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// So many of them, or four times the length of the step.
    pub requests: u64,
    /// How much more of them may fail than of the alternative's, from 0 to 1.
    pub error_rate: f64,
    /// How many times the alternative's 95th percentile their own may be.
    pub latency: f64,
}

/// What is served when no target is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllDown {
    /// What was served before.
    #[default]
    LastGood,
    /// As if all of them were well: the checks may be what is broken.
    FailOpen,
    /// None of them: clients are told that there is nothing.
    FailClosed,
}

/// For how long resolvers may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    pub steady: Duration,
    /// While something is about to change. Never zero.
    pub low: Duration,
}

impl FailoverLaw {
    /// The defaults, for so many targets in their order.
    pub fn ordered(targets: usize) -> Self {
        Self {
            targets: vec![TargetLaw { weight: 1, capacity: None }; targets],
            sharing: Sharing::Ordered,
            degraded: DegradedLimits { error_rate: 0.05, latency: Duration::from_millis(500) },
            hold_down: Duration::from_secs(60),
            steps: vec![5, 25, 50],
            step_for: Duration::from_secs(30),
            gate: Gate { requests: 200, error_rate: 0.005, latency: 1.2 },
            all_down: AllDown::default(),
            ttl: Ttl { steady: Duration::from_secs(30), low: Duration::from_secs(5) },
        }
    }
}
