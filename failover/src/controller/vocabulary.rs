//! What the controller is told, and what it says.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_config::{Moment, Steering};

use crate::{Health, Samples, Source};

/// Something that the law has to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// What the vantages together say of a target has changed.
    Health {
        target: usize,
        health: Health,
    },
    /// What a target has answered since the last of these.
    Answers {
        target: usize,
        source: Source,
        samples: Samples,
    },
    Order(Order),
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Everything stays as it is.
    Freeze { until: Moment },
    /// All clients go to this target, whatever is known of it.
    Force { target: usize, until: Moment },
    /// Neither any more.
    Release,
}

/// Something that was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// A target gets no clients any more, for so long at least.
    Leave {
        target: usize,
        why: Why,
        hold: Duration,
    },
    /// A target that is degraded keeps so much of its share, in ten-thousandths.
    Ease {
        target: usize,
        to: u16,
    },
    /// A target gets so much of its share back, in ten-thousandths.
    Return {
        target: usize,
        to: u16,
    },
    /// A target has its whole share again.
    Restored {
        target: usize,
    },
    /// No target is well.
    AllDown,
    /// One is again.
    SomeUp {
        target: usize,
    },
    /// Nothing comes back until then.
    Freeze {
        by: Frozen,
        until: Moment,
    },
    Force {
        target: usize,
        until: Moment,
    },
    Release,
    /// What follows: to be published, to the proxy first and then in DNS.
    Steer(Steering),
}

/// Why a target was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is down.
    Down,
    /// Most of its answers fail, and the alternative's do not.
    Failing,
    /// It was degraded for too long.
    Degraded,
    /// It did not pass the gate on its way back.
    Gate,
}

/// How far a target is admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// To its whole share.
    In,
    /// Not at all, and it had no share: it stands by, and nobody knows that it is good.
    Aside,
    /// It is degraded and gives up its share by steps; `fine` since when it seems to be no more.
    Easing { step: u8, since: Moment, fine: Option<Moment> },
    /// Not at all, until then at least; `clean` since when it has been well.
    Out { until: Moment, clean: Option<Moment> },
    /// It comes back by steps; what it and the others have answered in this one.
    Returning { step: u8, since: Moment, own: Samples, others: Samples },
}

/// What suspends the law.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    #[default]
    None,
    Frozen {
        by: Frozen,
        until: Moment,
    },
    Forced {
        target: usize,
        until: Moment,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frozen {
    /// Nothing changes.
    Operator,
    /// Too many departures: nothing comes back, and only what is dead is left.
    Damping,
}

/// In a word, what is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everybody has what the policy gives him.
    Steady,
    /// The same, but somebody doubts it.
    Suspect,
    /// A degraded target is being left.
    FailingOver,
    /// Somebody is left.
    FailedOver,
    /// Somebody comes back.
    ShiftingBack,
    AllDown,
    Frozen,
    Forced,
}
