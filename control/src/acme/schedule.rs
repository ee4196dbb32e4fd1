//! When a certificate is ordered: pure, in seconds since 1970.

/// So much of its life has gone when a certificate is renewed, unless its authority says otherwise;
const RENEW_AT: f64 = 2.0 / 3.0;
/// of a short life, so much,
const RENEW_SHORT_AT: f64 = 1.0 / 2.0;
/// and this is short.
const SHORT_LIFE: i64 = 10 * DAY;
/// Not all of a day are renewed at one time of a later day: up to so much of its life sooner.
const JITTER: f64 = 1.0 / 30.0;
/// Whatever its authority says, a certificate is renewed when so much of its life is left.
const LAST: f64 = 1.0 / 6.0;

pub(crate) const MINUTE: i64 = 60;
pub(crate) const DAY: i64 = 24 * 60 * MINUTE;
/// Between two tries that fail, longer and longer, as Let's Encrypt asks for.
const BACK_OFF: [i64; 4] = [MINUTE, 10 * MINUTE, 100 * MINUTE, DAY];
/// An authority that wants to be left alone for longer is asked anyway by then.
const LONGEST: i64 = 7 * DAY;

/// The tries of a certificate that have failed since the last one that did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) count: u32,
    /// When it is tried again.
    pub(crate) next_at: i64,
    /// Of the last one.
    pub(crate) message: String,
    /// Whether it was the authority's limit.
    pub(crate) is_limited: bool,
}

impl Failures {
    /// With one more. `issuers` are asked in turn, and the wait grows when all of them have failed.
    /// `retry_after` is what the authority asked for, in seconds.
    pub(crate) fn after(
        &self,
        message: String,
        is_limited: bool,
        retry_after: Option<i64>,
        issuers: usize,
        now: i64,
    ) -> Self {
        let count = self.count.saturating_add(1);
        let issuers = u32::try_from(issuers.max(1)).unwrap_or(u32::MAX);
        let rounds = (count / issuers) as usize;
        let wait = match rounds {
            // The next issuer is asked at once.
            _ if !count.is_multiple_of(issuers) => 0,
            rounds => BACK_OFF[(rounds - 1).min(BACK_OFF.len() - 1)],
        };
        let asked = if issuers > 1 && wait == 0 { 0 } else { retry_after.unwrap_or(0) };
        let next_at = now + wait.max(asked).min(LONGEST);
        Self { count, next_at, message, is_limited }
    }

    /// Which of the issuers the next try asks.
    pub(crate) fn issuer(&self, issuers: usize) -> usize {
        self.count as usize % issuers.max(1)
    }
}

/// When a certificate that is valid from `valid.0` to `valid.1` is renewed. `window` is what its
/// authority suggests (RFC 9773); `chance` is 0 to 1.
pub(crate) fn renew_at(valid: (i64, i64), window: Option<(i64, i64)>, chance: f64) -> i64 {
    let (begins, ends) = valid;
    let life = (ends - begins).max(0);
    let of_life = |share: f64| (life as f64 * share) as i64;
    match window {
        Some((from, to)) => {
            let at = from + ((to - from).max(0) as f64 * chance) as i64;
            at.min(ends - of_life(LAST))
        }
        None => {
            let share = if life < SHORT_LIFE { RENEW_SHORT_AT } else { RENEW_AT };
            begins + of_life(share) - of_life(JITTER * chance)
        }
    }
}

/// So many at once, and then one in each interval: stays below what an authority allows.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    burst: f64,
    interval: f64,
    left: f64,
    at: i64,
}

impl Budget {
    /// A full one, that gets one more in each `interval` seconds.
    pub(crate) fn new(burst: u32, interval: u32, now: i64) -> Self {
        let burst = f64::from(burst);
        Self { burst, interval: f64::from(interval.max(1)), left: burst, at: now }
    }

    /// Takes one.
    ///
    /// # Errors
    /// When there will be one, if there is none.
    pub(crate) fn take(&mut self, now: i64) -> Result<(), i64> {
        // The clock may have been put back.
        let passed = (now - self.at).max(0) as f64;
        self.left = (self.left + passed / self.interval).min(self.burst);
        self.at = now;
        if self.left < 1.0 {
            return Err(now + ((1.0 - self.left) * self.interval).ceil() as i64);
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_when_all_issuers_have_failed_and_keeps_to_what_is_asked_for() {
        let fails = |failures: &Failures, asked, issuers, now| {
            failures.after("no".to_owned(), false, asked, issuers, now)
        };
        let (mut failures, mut waits) = (Failures::default(), Vec::new());
        for _ in 0..6 {
            failures = fails(&failures, None, 1, 1000);
            waits.push(failures.next_at - 1000);
        }
        assert_eq!(waits, [60, 600, 6000, 86_400, 86_400, 86_400]);

        let (mut failures, mut asked) = (Failures::default(), Vec::new());
        for _ in 0..4 {
            let issuer = failures.issuer(2);
            failures = fails(&failures, Some(90), 2, 0);
            asked.push((issuer, failures.next_at));
        }
        assert_eq!(asked, [(0, 0), (1, 90), (0, 0), (1, 600)]);

        let asked = |seconds| fails(&Failures::default(), Some(seconds), 1, 0).next_at;
        assert_eq!([asked(30), asked(3600), asked(1000 * DAY)], [60, 3600, LONGEST]);
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_when_its_authority_says() {
        let days = |n: i64| n * DAY;
        assert_eq!(renew_at((0, days(90)), None, 0.0), days(60));
        assert_eq!(renew_at((0, days(90)), None, 1.0), days(57));
        assert_eq!(renew_at((0, days(6)), None, 0.0), days(3));
        let window = Some((days(40), days(42)));
        assert_eq!(renew_at((0, days(90)), window, 0.5), days(41));
        assert_eq!(renew_at((0, days(90)), Some((-5, -1)), 0.5), -3, "it is to be replaced now");
        let never = Some((days(200), days(201)));
        assert_eq!(renew_at((0, days(90)), never, 0.0), days(75), "it must not end");
    }

    #[test]
    fn a_budget_is_never_passed_in_any_window() {
        let mut budget = Budget::new(250, 40, 0);
        let mut taken = Vec::new();
        for now in 0..40_000 {
            while budget.take(now).is_ok() {
                taken.push(now);
            }
        }
        let most = (0..40_000 - 10_800)
            .step_by(100)
            .map(|from| taken.iter().filter(|at| (from..from + 10_800).contains(*at)).count());
        // Let's Encrypt: 300 at once, and one in 36 seconds.
        assert!(most.clone().max() <= Some(250 + 10_800 / 40), "{:?}", most.max());
        assert_eq!((budget.take(40_000), budget.take(40_001)), (Ok(()), Err(40_040)));
    }
}
