//! Whether an app should be awake.

use std::time::Duration;

use weir_config::{Moment, SleepLevel, SleepPolicy};

use crate::observed::AppState;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Awake,
    Asleep(SleepLevel),
}

/// However soon an app sleeps, it is not looked at more often than this.
const LEAST_LOOK: Duration = Duration::from_millis(100);

/// Decides, and tells when the answer may change though nothing happens.
///
/// `at_ease_since` is since when every instance has been ready and no roll-out under way, if so it
/// is: an app falls asleep from that state only.
pub(super) fn target(
    policy: Option<&SleepPolicy>,
    state: &AppState,
    at_ease_since: Option<Moment>,
    now: Moment,
) -> (Target, Option<Moment>) {
    if state.in_flight > 0 || state.wake_wanted {
        // Nothing tells when a request ends; if it ends now, this is when the app may be idle.
        let shortest = policy.and_then(|policy| policy.pause_after.or(policy.stop_after));
        return (Target::Awake, shortest.map(|span| now + span.max(LEAST_LOOK)));
    }
    let awake_since = state.awake_since.max(at_ease_since.unwrap_or_default());
    let last_active = state.last_request.max(awake_since);
    let idle = now.since(last_active);
    let deeper = |level: SleepLevel| {
        let after = match level {
            SleepLevel::Paused => policy?.pause_after?,
            SleepLevel::Stopped => policy?.stop_after?,
        };
        Some((idle >= after, last_active + after))
    };
    let due = |level| matches!(deeper(level), Some((true, _)));
    let next = |level| deeper(level).filter(|(due, _)| !due).map(|(_, at)| at);

    if let Some(level) = state.asleep {
        let level = if due(SleepLevel::Stopped) { SleepLevel::Stopped } else { level };
        return (Target::Asleep(level), next(SleepLevel::Stopped));
    }
    let Some(policy) = policy else { return (Target::Awake, None) };
    let may_sleep_at = awake_since + policy.min_awake;
    let earliest = [next(SleepLevel::Paused), next(SleepLevel::Stopped)];
    let earliest = earliest.into_iter().flatten().min();
    if at_ease_since.is_none() {
        return (Target::Awake, None);
    }
    if now < may_sleep_at {
        return (Target::Awake, Some(may_sleep_at));
    }
    let target = if due(SleepLevel::Stopped) {
        Target::Asleep(SleepLevel::Stopped)
    } else if due(SleepLevel::Paused) {
        Target::Asleep(SleepLevel::Paused)
    } else {
        Target::Awake
    };
    (target, earliest)
}
