//! What keeps a target that comes and goes from taking its clients with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_config::Moment;

/// Of each departure, by now; as BGP damps routes (RFC 2439).
const PENALTY: f64 = 1000.0;
const HALF_LIFE: Duration = Duration::from_secs(15 * 60);
/// Above this nobody comes back,
const SUPPRESS: f64 = 2000.0;
/// until it is below this.
const REUSE: f64 = 750.0;
/// Above this, or after more than so many departures within [`REMEMBERED`], returns are frozen.
const FREEZE: f64 = 3000.0;
const MANY: usize = 4;
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
const LONGEST_HOLD: Duration = Duration::from_secs(30 * 60);

/// The departures of the last hour, and what they weigh by now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Damping {
    penalty: f64,
    /// When the penalty was that.
    at: Moment,
    suppressed: bool,
    /// The last ones.
    departures: [Option<Moment>; MANY + 1],
}

impl Damping {
    /// Notes a departure; returns how long the target stays out.
    pub(super) fn depart(&mut self, hold_down: Duration, now: Moment) -> Duration {
        self.penalty = self.penalty_at(now) + PENALTY;
        self.at = now;
        self.suppressed |= self.penalty > SUPPRESS;
        self.departures.rotate_right(1);
        self.departures[0] = Some(now);
        let doublings = self.recent(now).saturating_sub(1).min(16) as u32;
        hold_down.saturating_mul(1 << doublings).min(LONGEST_HOLD.max(hold_down))
    }

    /// Whether so much has happened that somebody should look before anything comes back.
    pub(super) fn is_too_much(&self, now: Moment) -> bool {
        self.recent(now) > MANY || self.penalty_at(now) > FREEZE
    }

    /// From when on a target may come back.
    pub(super) fn reuse_at(&self) -> Moment {
        if !self.suppressed {
            return Moment(0);
        }
        let half_lives = (self.penalty / REUSE).log2().max(0.0);
        self.at + HALF_LIFE.mul_f64(half_lives)
    }

    /// Notes that the time is up.
    pub(super) fn refresh(&mut self, now: Moment) {
        if self.suppressed && now >= self.reuse_at() {
            self.suppressed = false;
        }
    }

    fn penalty_at(&self, now: Moment) -> f64 {
        if self.penalty == 0.0 {
            return 0.0;
        }
        let half_lives = now.since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.penalty * 0.5_f64.powf(half_lives)
    }

    fn recent(&self, now: Moment) -> usize {
        self.departures.iter().flatten().filter(|at| now.since(**at) <= REMEMBERED).count()
    }
}
