//! One target as this process sees it.

use std::{net::IpAddr, time::Duration};

use weir_config::{Moment, Numbers};
use weir_failover::{Health, Quorum, Sample, Samples, Verdict};

use crate::failover::{passive::Passive, schedule::Schedule};

/// One target as this process sees it.
#[derive(Debug)]
pub(in crate::failover) struct Watched {
    pub(in crate::failover) addresses: Vec<IpAddr>,
    /// The next of them to be asked: they take turns.
    turn: usize,
    pub(super) schedule: Schedule,
    pub(super) quorum: Quorum,
    /// As the law was told.
    pub(in crate::failover) health: Health,
    /// Since when it has been good, after it was not.
    pub(in crate::failover) good_since: Option<Moment>,
    /// What this vantage said last.
    pub(super) said: Verdict,
    /// Why the last probe failed, if it did.
    pub(in crate::failover) error: Option<String>,
    /// When it was asked last.
    pub(in crate::failover) asked: Option<Moment>,
    /// What the probes of the last moments came to.
    pub(super) probes: Probes,
    pub(super) passive: Passive,
}

/// What has come of some probes.
#[derive(Debug, Default)]
pub(super) struct Probes {
    took: Vec<f32>,
    errors: u32,
}

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::failover) enum Heard {
    Answered(Duration),
    Late,
    /// `late` if that was told already.
    Failed {
        error: String,
        late: bool,
    },
}

/// A probe that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::failover) struct Probe {
    pub(in crate::failover) target: usize,
    pub(in crate::failover) address: IpAddr,
    /// After how long it is late.
    pub(in crate::failover) patience: Duration,
}

impl Watched {
    pub(super) fn new(now: Moment, numbers: &mut Numbers) -> Self {
        Self {
            addresses: Vec::new(),
            turn: 0,
            schedule: Schedule::new(now, numbers),
            quorum: Quorum::new(1),
            health: Health::Unknown,
            good_since: None,
            said: Verdict::Unproven,
            error: None,
            asked: None,
            probes: Probes::default(),
            passive: Passive::default(),
        }
    }

    pub(super) fn next_address(&mut self) -> Option<IpAddr> {
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn.checked_rem(self.addresses.len())?;
        self.addresses.get(turn).copied()
    }

    pub(super) fn was_bad(&self) -> bool {
        matches!(self.health, Health::Down | Health::Mending)
    }
}

impl Heard {
    pub(super) fn sample(&self, sent: Moment) -> Sample {
        match self {
            Self::Answered(took) => Sample::Answered { sent, took: *took },
            Self::Late => Sample::Late { sent },
            Self::Failed { late, .. } => Sample::Failed { sent, late: *late },
        }
    }
}

impl Probes {
    pub(super) fn count(&mut self, heard: &Heard) {
        match heard {
            Heard::Answered(took) => self.took.push(took.as_secs_f32() * 1000.0),
            Heard::Failed { .. } => self.errors += 1,
            Heard::Late => {}
        }
    }

    /// Those since this was asked last.
    pub(super) fn samples(&mut self) -> Option<Samples> {
        let mut took = std::mem::take(&mut self.took);
        took.sort_by(f32::total_cmp);
        let errors = std::mem::take(&mut self.errors);
        let count = took.len() as u32 + errors;
        let p95 = took.get(took.len() * 95 / 100).copied().unwrap_or_default();
        (count > 0).then_some(Samples { count, errors, p95 })
    }
}
