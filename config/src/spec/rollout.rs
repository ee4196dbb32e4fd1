//! How one deployment replaces another.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Span;

/// How one deployment replaces another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutSpec {
    pub strategy: Strategy,
    /// An instance that is not ready this long after its start has failed.
    #[schema(value_type = String)]
    pub deadline: Span,
    /// Requests in flight on the replaced instances may take this long to end.
    #[schema(value_type = String)]
    pub drain: Span,
    /// Between asking a process to end (SIGTERM) and ending it.
    #[schema(value_type = String)]
    pub stop_grace: Span,
    /// Of a canary: the percentages of the requests that the new deployment gets, one after the
    /// other, before it gets all.
    pub steps: Vec<u8>,
    /// Of a canary: how long each step takes.
    #[schema(value_type = String)]
    pub step_for: Span,
    /// The part of its answers that may fail (5xx, or none at all) during a canary's step and while
    /// it bakes; `null` for any.
    pub max_error_rate: Option<f64>,
    /// 99 of 100 answers must begin within this, at the same times; `null` for any.
    #[schema(value_type = Option<String>)]
    pub max_latency: Option<Span>,
    /// Go back by itself when a check through the public route or one of these limits fails.
    pub auto_rollback: bool,
    /// How long the limits are watched after all requests go to the new deployment, if the replaced
    /// instances are kept.
    #[schema(value_type = String)]
    pub bake: Span,
    /// How long the replaced instances are kept, paused, for a rollback within a second: at least
    /// while it bakes, or not at all if this is zero.
    #[schema(value_type = String)]
    pub keep: Span,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            deadline: Span::seconds(60),
            drain: Span::seconds(30),
            stop_grace: Span::seconds(10),
            steps: vec![5, 25, 50],
            step_for: Span::seconds(60),
            max_error_rate: Some(0.2),
            max_latency: None,
            auto_rollback: true,
            bake: Span::seconds(60),
            keep: Span::seconds(10 * 60),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// All new instances are ready, then all requests go to them.
    #[default]
    BlueGreen,
    /// One instance after the other; meanwhile both versions answer.
    Rolling,
    /// A growing part of the requests, as long as few of them fail.
    Canary,
}

impl Strategy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlueGreen => "blue-green",
            Self::Rolling => "rolling",
            Self::Canary => "canary",
        }
    }
}
