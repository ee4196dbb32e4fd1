//! What the vantages together say of one target.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_config::Moment;

use crate::Verdict;

/// A vote that is older than this is none.
pub const FRESH: Duration = Duration::from_secs(3);
/// For so long most have to say that a target is bad, if not all do. Shorter troubles on the way,
/// which two vantages may have at the same time, are over by then.
const DISPUTE: Duration = Duration::from_secs(3);

/// What is known of a target.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No quorum has ever said anything.
    #[default]
    Unknown,
    /// A quorum says that it is good, and nobody says otherwise.
    Up,
    /// A quorum says that it is good, but somebody does not.
    Suspected,
    /// It was good, and at present no quorum says anything.
    Doubted,
    /// It was bad, and at present no quorum says anything.
    Mending,
    /// A quorum says that it is bad.
    Down,
}

impl Health {
    /// Whether a quorum says now that it is good: clients may be sent there.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Up | Self::Suspected)
    }
}

/// The votes on one target, one for each vantage.
#[derive(Clone, Debug)]
pub struct Quorum {
    votes: Vec<Option<Vote>>,
    decided: Decided,
    /// Since when most say that it is bad, while somebody does not.
    disputed: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Vote {
    /// `None` if it abstains.
    verdict: Option<Verdict>,
    heard: Moment,
}

/// The last thing that a quorum said, however long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    Nothing,
    Good,
    Bad,
}

impl Quorum {
    pub fn new(vantages: usize) -> Self {
        Self { votes: vec![None; vantages], decided: Decided::Nothing, disputed: None }
    }

    /// Takes in what a vantage says; `None` if it abstains.
    pub fn cast(&mut self, vantage: usize, verdict: Option<Verdict>, now: Moment) {
        if let Some(vote) = self.votes.get_mut(vantage) {
            *vote = Some(Vote { verdict, heard: now });
        }
    }

    /// What the fresh votes come to.
    pub fn judge(&mut self, now: Moment) -> Health {
        let needed = self.votes.len() / 2 + 1;
        let (mut good, mut bad, mut other) = (0, 0, 0);
        for vote in self.fresh(now) {
            match vote.verdict {
                Some(Verdict::Good) => good += 1,
                Some(Verdict::Bad) => bad += 1,
                Some(Verdict::Doubtful | Verdict::Unproven) | None => other += 1,
            }
        }
        let disputed = (bad >= needed && good + other > 0).then_some(now);
        self.disputed = disputed.map(|now| self.disputed.unwrap_or(now));
        if bad >= needed && self.disputed.is_none_or(|since| now.since(since) >= DISPUTE) {
            self.decided = Decided::Bad;
        } else if good >= needed {
            self.decided = Decided::Good;
        }
        match self.decided {
            Decided::Nothing => Health::Unknown,
            Decided::Bad if bad < needed => Health::Mending,
            Decided::Bad => Health::Down,
            Decided::Good if good < needed => Health::Doubted,
            Decided::Good if bad + other > 0 => Health::Suspected,
            Decided::Good => Health::Up,
        }
    }

    /// Whether too few vantages say anything: then everything stays as it is.
    pub fn is_blind(&self, now: Moment) -> bool {
        self.fresh(now).filter(|vote| vote.verdict.is_some()).count() <= self.votes.len() / 2
    }

    /// When to judge again after now, though nobody says anything new.
    pub fn due(&self, now: Moment) -> Option<Moment> {
        const MOMENT: Duration = Duration::from_millis(1);
        let stale = self.votes.iter().flatten().map(|vote| vote.heard + FRESH + MOMENT);
        let settled = self.disputed.map(|since| since + DISPUTE);
        stale.chain(settled).filter(|due| *due > now).min()
    }

    fn fresh(&self, now: Moment) -> impl Iterator<Item = &Vote> {
        self.votes.iter().flatten().filter(move |vote| now.since(vote.heard) <= FRESH)
    }
}
