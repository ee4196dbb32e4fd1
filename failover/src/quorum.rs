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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `g`ood, `d`oubtful, `b`ad, `u`nproven, `-` for an abstention, and ` ` for no vote at all.
    fn cast(quorum: &mut Quorum, votes: &str, now: Moment) -> Health {
        for (vantage, vote) in votes.chars().enumerate().filter(|(_, vote)| *vote != ' ') {
            let verdict = match vote {
                'g' => Some(Verdict::Good),
                'd' => Some(Verdict::Doubtful),
                'b' => Some(Verdict::Bad),
                'u' => Some(Verdict::Unproven),
                _ => None,
            };
            quorum.cast(vantage, verdict, now);
        }
        quorum.judge(now)
    }

    fn check(before: &str, votes: &str, at_once: Health, later: Health) {
        let (now, mut quorum) = (Moment(10_000), Quorum::new(before.len()));
        cast(&mut quorum, before, now);
        assert_eq!(cast(&mut quorum, votes, now), at_once, "{before} {votes}, at once");
        let second = Duration::from_secs(1);
        assert_ne!(cast(&mut quorum, votes, now + second), Health::Unknown);
        cast(&mut quorum, votes, now + 2 * second);
        assert_eq!(cast(&mut quorum, votes, now + 3 * second), later, "{before} {votes}, later");
    }

    #[test]
    fn all_of_those_who_speak_decide_at_once_and_most_of_all_after_a_while() {
        use Health::{Doubted, Down, Mending, Suspected, Up};
        check("g", "b", Down, Down);
        check("ggg", "ggg", Up, Up);
        check("ggg", "gdg", Suspected, Suspected);
        check("ggg", "gbg", Suspected, Suspected);
        check("ggg", "bdd", Doubted, Doubted);
        check("ggg", "bbg", Doubted, Down);
        check("ggg", "bb-", Doubted, Down);
        check("ggg", "bbb", Down, Down);
        check("ggg", "b--", Doubted, Doubted);
        check("bbb", "ubb", Down, Down);
        check("bbb", "uub", Mending, Mending);
        check("bbb", "ggu", Suspected, Suspected);
        check("gg", "bg", Doubted, Doubted);
    }

    #[test]
    fn a_vote_gets_old_and_without_enough_of_them_everything_stays() {
        let (now, mut quorum) = (Moment(10_000), Quorum::new(3));
        cast(&mut quorum, "bbb", now);
        let later = now + FRESH + Duration::from_millis(1);
        assert_eq!(quorum.due(now), Some(later));
        assert_eq!(cast(&mut quorum, "g  ", later), Health::Mending, "one of three is not enough");
        assert!(quorum.is_blind(later));
        // Two of three are, if the third is not heard of.
        assert_eq!(cast(&mut quorum, "gg ", later), Health::Up);
        assert_eq!(cast(&mut quorum, "bb ", later), Health::Down);
    }
}
