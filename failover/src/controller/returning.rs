//! How a target is left by steps, and how it comes back.

use std::time::Duration;

use weir_config::{FailoverLaw, Moment, WHOLE};

use super::{CLEAR_FOR, Decision, EASE_FOR, EASING, Standing, State, Target, Why, shares};
use crate::{Samples, quality::Grade};

/// For so long at least a target has to have been well before it comes back.
const CLEAN_FOR: Duration = Duration::from_secs(60);
/// A step takes at most so many times its length, however few requests there are.
const PATIENCE: u32 = 4;
/// By how many standard deviations its answers have to be worse before it is sent back.
const SIGMAS: f64 = 2.0;

/// What the answers of one step come to.
enum Passed {
    Yes,
    NotYet,
    No,
}

impl Standing {
    /// Ten-thousandths of its share.
    pub(super) fn admitted(&self, law: &FailoverLaw) -> u16 {
        match self {
            Self::In => WHOLE,
            Self::Easing { step, .. } => EASING.get(usize::from(*step)).copied().unwrap_or(0),
            Self::Aside | Self::Out { .. } => 0,
            Self::Returning { step, .. } => part(law, *step),
        }
    }

    pub(super) fn is_out(&self) -> bool {
        matches!(self, Self::Aside | Self::Out { .. })
    }

    /// Whether it is where it stays.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::In | Self::Aside)
    }
}

/// The part that a step gives; after the last one it is all.
fn part(law: &FailoverLaw, step: u8) -> u16 {
    law.steps.get(usize::from(step)).map_or(WHOLE, |percent| u16::from(*percent) * (WHOLE / 100))
}

fn returning(step: u8, now: Moment) -> Standing {
    let (own, others) = (Samples::default(), Samples::default());
    Standing::Returning { step, since: now, own, others }
}

impl State {
    /// Counts on those who stand by only while a quorum says that they are good.
    pub(super) fn stand_by(&mut self, law: &FailoverLaw, now: Moment) {
        if self.all_down {
            return;
        }
        for place in 0..self.targets.len() {
            let is_good = self.targets[place].health.is_good();
            let standing = match self.targets[place].standing {
                Standing::In if !is_good && self.shares(law).of(place) == 0 => Standing::Aside,
                Standing::Aside if is_good && self.changes_nothing(law, place) => Standing::In,
                // It would have clients by now: they come as to any other.
                Standing::Aside if is_good => Standing::Out { until: now, clean: Some(now) },
                _ => continue,
            };
            self.targets[place].standing = standing;
        }
    }

    /// Moves one target on by itself: away because it is worse than the alternative, or back.
    pub(super) fn move_on(
        &mut self,
        law: &FailoverLaw,
        place: usize,
        now: Moment,
        out: &mut Vec<Decision>,
    ) {
        match self.targets[place].standing.clone() {
            Standing::In => self.ease_out(law, place, now, out),
            Standing::Easing { step, since, fine } => {
                self.ease_on(law, place, (step, since, fine), now, out);
            }
            Standing::Aside => {}
            Standing::Out { until, clean } => self.come_back(law, place, (until, clean), now, out),
            Standing::Returning { step, since, own, others } => {
                match passed(law, since, &own, &others, now) {
                    Passed::NotYet => {}
                    Passed::No => self.depart(law, place, Why::Gate, now, out),
                    Passed::Yes => self.admit(law, place, step + 1, now, out),
                }
            }
        }
    }

    /// When it may move on though nothing happens.
    pub(super) fn target_due(&self, law: &FailoverLaw, target: &Target) -> [Option<Moment>; 2] {
        if self.hold != super::Hold::None || self.all_down {
            return [None, None];
        }
        match &target.standing {
            Standing::In | Standing::Aside | Standing::Out { clean: None, .. } => [None, None],
            Standing::Easing { since, fine, .. } => {
                [Some(*since + EASE_FOR), fine.map(|fine| fine + CLEAR_FOR)]
            }
            Standing::Out { until, clean: Some(clean) } => {
                let clean = *clean + self.clean_for(law);
                [Some(clean.max(*until).max(self.damping.reuse_at())), None]
            }
            Standing::Returning { since, .. } => {
                [Some(*since + law.step_for), Some(*since + law.step_for * PATIENCE)]
            }
        }
    }

    fn clean_for(&self, law: &FailoverLaw) -> Duration {
        CLEAN_FOR.max(2 * law.ttl.steady)
    }

    fn ease_out(&mut self, law: &FailoverLaw, place: usize, now: Moment, out: &mut Vec<Decision>) {
        if self.shares(law).of(place) == 0 {
            return;
        }
        match self.grade(law, place, now) {
            Grade::Hopeless => self.depart(law, place, Why::Failing, now, out),
            Grade::Degraded => {
                self.targets[place].standing = Standing::Easing { step: 0, since: now, fine: None };
                out.push(Decision::Ease { target: place, to: EASING[0] });
            }
            Grade::Fine | Grade::Between => {}
        }
    }

    fn ease_on(
        &mut self,
        law: &FailoverLaw,
        place: usize,
        (step, since, fine): (u8, Moment, Option<Moment>),
        now: Moment,
        out: &mut Vec<Decision>,
    ) {
        let grade = self.grade(law, place, now);
        let fine = (grade == Grade::Fine).then(|| fine.unwrap_or(now));
        let standing = &mut self.targets[place].standing;
        *standing = Standing::Easing { step, since, fine };
        if grade == Grade::Hopeless {
            self.depart(law, place, Why::Failing, now, out);
        } else if fine.is_some_and(|fine| now.since(fine) >= CLEAR_FOR) {
            // From as much as it has kept.
            let kept = EASING[usize::from(step)];
            let next = (0..=law.steps.len() as u8).find(|step| part(law, *step) >= kept);
            self.admit(law, place, next.unwrap_or_default(), now, out);
        } else if grade == Grade::Degraded && now.since(since) >= EASE_FOR {
            match EASING.get(usize::from(step) + 1) {
                None | Some(0) => self.depart(law, place, Why::Degraded, now, out),
                Some(to) => {
                    *standing = Standing::Easing { step: step + 1, since: now, fine: None };
                    out.push(Decision::Ease { target: place, to: *to });
                }
            }
        }
    }

    fn come_back(
        &mut self,
        law: &FailoverLaw,
        place: usize,
        (until, clean): (Moment, Option<Moment>),
        now: Moment,
        out: &mut Vec<Decision>,
    ) {
        let is_well =
            self.targets[place].health.is_good() && self.grade(law, place, now) == Grade::Fine;
        let clean = is_well.then(|| clean.unwrap_or(now));
        self.targets[place].standing = Standing::Out { until, clean };
        let Some(clean) = clean else { return };
        if self.changes_nothing(law, place) {
            self.targets[place].standing = Standing::In;
            return;
        }
        let reuse = self.damping.reuse_at();
        if now >= until && now >= reuse && now.since(clean) >= self.clean_for(law) {
            self.admit(law, place, 0, now, out);
        }
    }

    /// Whether nobody would move if the target were back: it stands by.
    fn changes_nothing(&self, law: &FailoverLaw, place: usize) -> bool {
        let mut admitted = self.admitted(law);
        admitted[place] = WHOLE;
        shares::shares(law, &admitted, self.rate) == self.shares(law)
    }

    fn admit(
        &mut self,
        law: &FailoverLaw,
        place: usize,
        step: u8,
        now: Moment,
        out: &mut Vec<Decision>,
    ) {
        let to = part(law, step);
        self.targets[place].standing = match to {
            WHOLE => Standing::In,
            _ => returning(step, now),
        };
        out.push(match to {
            WHOLE => Decision::Restored { target: place },
            _ => Decision::Return { target: place, to },
        });
    }
}

/// Whether a target may have more, by what it and the others have answered in this step.
fn passed(
    law: &FailoverLaw,
    since: Moment,
    own: &Samples,
    others: &Samples,
    now: Moment,
) -> Passed {
    let gate = &law.gate;
    let enough = u64::from(own.count) >= gate.requests;
    let allowed = others.plain_error_rate() + gate.error_rate;
    let fails_more = own.plain_error_rate() > allowed;
    let is_slower = others.count > 0 && own.p95 > gate.latency as f32 * others.p95;
    if enough && (is_slower || own.worse_by(others, 1.0, gate.error_rate) > SIGMAS) {
        return Passed::No;
    }
    let passed = now.since(since);
    let patient = passed < law.step_for * PATIENCE;
    if passed < law.step_for || (patient && (!enough || fails_more)) {
        return Passed::NotYet;
    }
    Passed::Yes
}
