//! The probes of one vantage to one target.

use weir_config::{Moment, Numbers};

use crate::{CONFIRM, Sample, Sight, TIMEOUT, Verdict, sight::pause};

/// Of an answer, in milliseconds.
const ROUND_TRIP: u64 = 20;
const SLOW: u64 = 600;
/// The mean of what [`pause`] gives, in milliseconds.
const MEAN_PAUSE: f64 = 950.0;
pub(super) const NEVER: Moment = Moment(u64::MAX);

/// What becomes of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    AnsweredLate,
    Refused,
    Lost,
}

/// What a path has to know of the world.
pub(super) trait Network {
    /// What becomes of a probe that is sent now.
    fn fate(&mut self, now: Moment) -> Fate;
    /// The part of the probes that is lost, for as long as nothing happens.
    fn loss(&self) -> f64;
    fn numbers(&mut self) -> &mut Numbers;
    /// Whether nothing is the matter but this loss.
    fn is_calm(&self, now: Moment) -> bool;
}

/// The probes of one vantage to one target.
pub(super) struct Path {
    pub(super) sight: Sight,
    /// When something happens here next.
    pub(super) next: Moment,
    flights: Vec<Flight>,
    regular: Moment,
    confirm: Option<Moment>,
    /// While nothing can happen: since when, and after how many probes something does.
    skipping: Option<(Moment, f64)>,
    /// Whether the probe that confirms the next one that is lost is lost too.
    is_doomed: bool,
}

/// A probe that has been sent.
struct Flight {
    sent: Moment,
    at: Moment,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Answered,
    Refused,
    Late { answered: Option<Moment> },
    TimedOut,
}

impl Path {
    pub(super) fn new(now: Moment, numbers: &mut Numbers) -> Self {
        let regular = Moment(now.0 + 1 + (numbers.fraction() * MEAN_PAUSE) as u64);
        Self {
            sight: Sight::default(),
            next: regular,
            flights: Vec::new(),
            regular,
            confirm: None,
            skipping: None,
            is_doomed: false,
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.sight.verdict()
    }

    /// What is due now.
    pub(super) fn wake(&mut self, network: &mut impl Network, now: Moment) {
        if self.skipping.is_some() {
            // Two probes in a row are lost, or it would not have woken.
            self.catch_up(network.loss(), now);
            self.send(Fate::Lost, now);
            self.is_doomed = true;
            self.regular = now + pause(network.numbers());
        } else {
            self.land(network, now);
            if self.confirm.is_some_and(|at| at <= now) {
                self.confirm = self.sight.is_in_doubt(now).then(|| now + CONFIRM);
                if self.confirm.is_some() {
                    let fate = network.fate(now);
                    self.send(fate, now);
                }
            }
            if self.regular <= now {
                let fate = network.fate(now);
                self.send(fate, now);
                self.regular = now + pause(network.numbers());
            }
        }
        self.settle(network, now);
    }

    /// Asks now, because a fellow is in doubt.
    pub(super) fn ask(&mut self, network: &mut impl Network, now: Moment) {
        if let Some((_, probes)) = self.skipping
            && network.fate(now) == Fate::Answered
        {
            self.skipping = Some((now, probes));
            self.sight.take_quiet(1, 0, now);
            return;
        }
        if self.skipping.is_some() {
            self.disturb(network, now);
            self.send(Fate::Lost, now);
        } else {
            // Whatever is on its way was sent before there was doubt.
            let fate = network.fate(now);
            self.send(fate, now);
        }
        self.settle(network, now);
    }

    /// Something changes: each probe matters again.
    pub(super) fn disturb(&mut self, network: &mut impl Network, now: Moment) {
        if self.skipping.is_some() {
            self.catch_up(network.loss(), now);
            let phase = network.numbers().fraction() * MEAN_PAUSE;
            self.regular = Moment(now.0 + phase as u64);
            self.next = self.regular;
        }
    }

    /// Takes in all probes that were skipped: of those that were lost, the next one was answered.
    fn catch_up(&mut self, loss: f64, now: Moment) {
        let Some((since, _)) = self.skipping.take() else { return };
        let probes = now.since(since).as_millis() as f64 / MEAN_PAUSE;
        let failed = (probes * loss * (1.0 - loss)) as u32;
        let last = Moment(now.0.saturating_sub(MEAN_PAUSE as u64));
        self.sight.take_quiet((probes as u32).max(1), failed, last.max(since));
    }

    /// What of the probes on their way has come by now.
    fn land(&mut self, network: &mut impl Network, now: Moment) {
        while let Some(first) = (0..self.flights.len()).min_by_key(|i| self.flights[*i].at)
            && self.flights[first].at <= now
        {
            let Flight { sent, at, then } = self.flights.swap_remove(first);
            let sample = match then {
                Then::Answered => Sample::Answered { sent, took: at.since(sent) },
                Then::Refused => Sample::Failed { sent, late: false },
                Then::Late { answered } => {
                    let (at, then) = match answered {
                        Some(at) => (at, Then::Answered),
                        None => (sent + TIMEOUT, Then::TimedOut),
                    };
                    self.flights.push(Flight { sent, at, then });
                    Sample::Late { sent }
                }
                Then::TimedOut => Sample::Failed { sent, late: true },
            };
            let was_in_doubt = self.sight.is_in_doubt(at);
            self.sight.take(sample, at);
            if then == Then::Answered {
                self.give_up_on_those_before(sent, at);
            } else if !was_in_doubt && self.sight.is_in_doubt(at) {
                // At once, and then regularly.
                let doomed = std::mem::take(&mut self.is_doomed);
                let fate = if doomed { Fate::Lost } else { network.fate(at) };
                self.send(fate, at);
                self.confirm = Some(at + CONFIRM);
            }
        }
    }

    /// What is lost but was sent before one that was answered only tells how much is lost.
    fn give_up_on_those_before(&mut self, sent: Moment, now: Moment) {
        let sight = &mut self.sight;
        self.flights.retain(|flight| {
            let is_over = flight.sent < sent && flight.then == Then::TimedOut;
            if is_over {
                sight.take(Sample::Failed { sent: flight.sent, late: true }, now);
            }
            !is_over
        });
    }

    fn send(&mut self, fate: Fate, now: Moment) {
        let late = now + self.sight.patience();
        let (at, then) = match fate {
            Fate::Answered => (Moment(now.0 + ROUND_TRIP), Then::Answered),
            Fate::Refused => (Moment(now.0 + ROUND_TRIP), Then::Refused),
            Fate::Lost => (late, Then::Late { answered: None }),
            Fate::AnsweredLate => {
                let at = Moment(now.0 + ROUND_TRIP + SLOW);
                (
                    late.min(at),
                    if at <= late { Then::Answered } else { Then::Late { answered: Some(at) } },
                )
            }
        };
        self.flights.push(Flight { sent: now, at, then });
    }

    /// When something happens next.
    fn settle(&mut self, network: &mut impl Network, now: Moment) {
        let is_idle = self.flights.is_empty() && self.verdict() == Verdict::Good;
        if is_idle && !self.sight.is_in_doubt(now) && network.is_calm(now) {
            let loss = network.loss();
            let probes = geometric(loss * loss, network.numbers());
            self.next = match probes.is_finite() {
                true => Moment(self.regular.max(now).0 + (probes * MEAN_PAUSE) as u64 + 1),
                false => NEVER,
            };
            self.skipping = Some((now, probes));
            return;
        }
        let flights = self.flights.iter().map(|flight| flight.at);
        let next = flights.chain(self.confirm).min().unwrap_or(NEVER);
        self.next = next.min(self.regular).max(Moment(now.0 + 1));
    }
}

/// How many do not happen before one does, of things that happen with this probability.
fn geometric(probability: f64, numbers: &mut Numbers) -> f64 {
    if probability <= 0.0 {
        return f64::INFINITY;
    }
    ((1.0 - numbers.fraction()).ln() / (1.0 - probability).ln()).floor()
}
