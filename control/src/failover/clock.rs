//! The clock that failover is decided by.

use weir_config::Moment;

use crate::time::unix_millis;

/// Milliseconds since the Unix epoch, as they were when the clock was made, and from then on by the
/// monotonic clock: what is kept means the same after a restart, and a wall clock that is set
/// changes nothing until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// By how much it is ahead of the process's own clock.
    ahead: u64,
}

impl Clock {
    /// `last` is the latest time that anything is kept of: it never goes back behind that.
    pub(super) fn new(last: Moment) -> Self {
        Self::at(unix_millis(), last, Moment::now())
    }

    fn at(unix_millis: i64, last: Moment, own: Moment) -> Self {
        let now = u64::try_from(unix_millis).unwrap_or_default().max(last.0);
        Self { ahead: now.saturating_sub(own.0) }
    }

    pub(super) fn now(self) -> Moment {
        self.of(Moment::now())
    }

    /// What a moment of the process's own clock is on this one.
    pub(super) fn of(self, own: Moment) -> Moment {
        Moment(own.0 + self.ahead)
    }

    /// And the other way round.
    pub(super) fn own(self, moment: Moment) -> Moment {
        Moment(moment.0.saturating_sub(self.ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_over_restarts_and_never_back() {
        let first = Clock::at(1_000_000, Moment(0), Moment(7));
        assert_eq!(first.of(Moment(1007)), Moment(1_001_000));
        let next = Clock::at(1_002_000, Moment(1_001_000), Moment(3));
        assert_eq!(next.of(Moment(3)), Moment(1_002_000));
        let set_back = Clock::at(5000, Moment(1_001_000), Moment(3));
        assert_eq!(set_back.of(Moment(3)), Moment(1_001_000), "the wall clock was set back");
        assert_eq!(next.own(next.of(Moment(99))), Moment(99));
    }
}
