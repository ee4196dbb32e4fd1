//! What targets do to those who ask them.

use std::time::Duration;

use weir_config::{Moment, Numbers};

/// A way not to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The first target refuses connections.
    Refuse,
    /// It answers nothing.
    BlackHole,
    /// Half of its answers are errors.
    Errors,
    /// It takes 600 ms longer, and still answers in time.
    Slow,
    /// It refuses for five seconds, works for five, for ten minutes.
    Flap,
    /// What is behind both targets fails: both answer with errors.
    Origin,
    /// The first one refuses, and while it does the second one too, for a while.
    Both,
}

/// What happens next.
pub(super) struct Faults {
    kinds: &'static [Fault],
    every: Duration,
    turn: usize,
    pub(super) now: Option<(Fault, Moment)>,
    pub(super) until: Moment,
}

/// What an answer is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Refuses,
    Silent,
    /// Every other answer is an error.
    Torn,
    Slow,
}

impl Fault {
    pub const ALL: &'static [Self] = &[
        Self::Refuse,
        Self::BlackHole,
        Self::Errors,
        Self::Slow,
        Self::Flap,
        Self::Origin,
        Self::Both,
    ];

    /// Whether leaving this target is right.
    pub(super) fn is_reason_to_leave(self, target: usize) -> bool {
        match self {
            Self::Origin => false,
            Self::Both => true,
            _ => target == 0,
        }
    }
}

impl Faults {
    pub(super) fn new(kinds: &'static [Fault], every: Duration, numbers: &mut Numbers) -> Self {
        let until = match kinds {
            [] => Moment(u64::MAX),
            _ => Moment(0) + every.mul_f64(0.5 + numbers.fraction()),
        };
        Self { kinds, every, turn: 0, now: None, until }
    }

    /// What is begins or ends.
    pub(super) fn turn(&mut self, numbers: &mut Numbers) {
        let now = self.until;
        if self.now.take().is_some() {
            self.until = now + self.every.mul_f64(0.5 + numbers.fraction());
            return;
        }
        let fault = self.kinds[self.turn % self.kinds.len()];
        self.turn += 1;
        self.now = Some((fault, now));
        let seconds = match fault {
            Fault::Flap => 600.0,
            Fault::Errors | Fault::Slow => 180.0 + 600.0 * numbers.fraction(),
            _ => 20.0 + 900.0 * numbers.fraction(),
        };
        self.until = now + Duration::from_secs_f64(seconds);
    }

    /// How a target answers at this time.
    pub(super) fn mood(&self, target: usize, at: Moment) -> Mood {
        let Some((fault, began)) = self.now else { return Mood::Well };
        let passed = at.since(began).as_millis();
        match (fault, target) {
            (Fault::Refuse, 0) => Mood::Refuses,
            (Fault::BlackHole, 0) => Mood::Silent,
            (Fault::Errors, 0) => Mood::Torn,
            (Fault::Slow, 0) => Mood::Slow,
            (Fault::Flap, 0) if (passed / 5000).is_multiple_of(2) => Mood::Refuses,
            (Fault::Origin, _) | (Fault::Both, 0) => Mood::Refuses,
            (Fault::Both, 1) if (10_000..60_000).contains(&passed) => Mood::Refuses,
            _ => Mood::Well,
        }
    }
}
