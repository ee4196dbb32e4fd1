//! What has come of a rolling update, and what it does next: computed from its deployments.

use std::fmt;

use weir_config::{AppName, DeploymentState, Moment};

use crate::{
    api::wire::Phase,
    reconciler::World,
    status,
    store::{OperationState, RollingUpdate, UpdatedApp},
};

/// How far one of its apps is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Waiting,
    UnderWay,
    Done,
    Failed(String),
    /// It has no part in it any more.
    Skipped(String),
}

/// What a rolling update does next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step<'a> {
    Wait,
    Deploy(Vec<&'a AppName>),
    End(OperationState, String),
}

/// How many of its apps are how far.
#[derive(Debug, Default)]
struct Tally {
    waiting: usize,
    under_way: usize,
    done: usize,
    failed: usize,
    skipped: usize,
    /// The first that has failed, with the reason.
    first_failed: Option<String>,
}

/// What follows by now. No other app is begun when more have failed than may; those that are on
/// their way come to their end all the same.
pub(crate) fn step<'a>(update: &'a RollingUpdate, world: &World, now: Moment) -> Step<'a> {
    let tally = Tally::of(update, world, now);
    let is_too_much = tally.failed > update.may_fail;
    if tally.under_way == 0 && (is_too_much || tally.waiting == 0) {
        let state = match is_too_much {
            true => OperationState::Failed,
            false => OperationState::Succeeded,
        };
        return Step::End(state, tally.to_string());
    }
    let room = update.parallel.saturating_sub(tally.under_way);
    if is_too_much || room == 0 || tally.waiting == 0 {
        return Step::Wait;
    }
    let is_waiting = |app: &&UpdatedApp| progress(app, world, now) == Progress::Waiting;
    Step::Deploy(update.apps.iter().filter(is_waiting).map(|app| &app.app).take(room).collect())
}

/// How far it is, in a sentence.
pub(crate) fn summary(update: &RollingUpdate, world: &World, now: Moment) -> String {
    Tally::of(update, world, now).to_string()
}

/// How far one of its apps is.
pub(crate) fn progress(updated: &UpdatedApp, world: &World, now: Moment) -> Progress {
    use DeploymentState::{Cancelled, Failed, Live, RolledBack, Superseded};
    if !updated.exists {
        return Progress::Skipped("it was deleted".to_owned());
    }
    if let Some(why) = &updated.failure {
        return Progress::Failed(why.clone());
    }
    let Some(number) = updated.deployment else { return Progress::Waiting };
    let message = || updated.ending.as_ref().map(|e| e.message.clone()).unwrap_or_default();
    match updated.state {
        Some(Live | Superseded) => Progress::Done,
        Some(Failed | RolledBack) => Progress::Failed(message()),
        Some(Cancelled) if updated.ending.as_ref().is_some_and(|e| e.reason == "Superseded") => {
            Progress::Skipped(message())
        }
        Some(Cancelled) => Progress::Failed(format!("it was called off, {}", message())),
        Some(_) => match fails_for_now(&updated.app, number, world, now) {
            Some(why) => Progress::Failed(why),
            None => Progress::UnderWay,
        },
        None => Progress::Skipped(format!("its deployment {number} is no longer known")),
    }
}

/// Why a deployment does not run that is tried again and again, because nothing stands in for it.
fn fails_for_now(app: &AppName, number: u64, world: &World, now: Moment) -> Option<String> {
    let app = world.desired.apps.get(app)?;
    let is_first = app.live().is_none() && app.target().is_some_and(|t| t.number == number);
    let standing = status::standing(app, world, now);
    (is_first && standing.phase == Phase::Failed).then(|| standing.summary())
}

impl Tally {
    fn of(update: &RollingUpdate, world: &World, now: Moment) -> Self {
        let mut tally = Self::default();
        for updated in &update.apps {
            match progress(updated, world, now) {
                Progress::Waiting => tally.waiting += 1,
                Progress::UnderWay => tally.under_way += 1,
                Progress::Done => tally.done += 1,
                Progress::Skipped(_) => tally.skipped += 1,
                Progress::Failed(why) => {
                    tally.failed += 1;
                    tally.first_failed.get_or_insert_with(|| format!("{}: {why}", updated.app));
                }
            }
        }
        tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { waiting, under_way, done, failed, skipped, .. } = self;
        let all = waiting + under_way + done + failed + skipped;
        write!(f, "{done} of {all} apps are updated")?;
        for (count, what) in
            [(under_way, "on their way"), (failed, "failed"), (skipped, "left out")]
        {
            if *count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        match &self.first_failed {
            Some(first) => write!(f, " ({first})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_config::{Desired, Ending, Snapshot};

    use super::*;
    use crate::observed::Observed;

    fn world() -> World {
        let served = Arc::new(Snapshot::default());
        World::new(Desired::default(), Observed::new(served, Moment(1)))
    }

    /// One of these: waiting, running, done, failed, rolled back, overtaken or deleted.
    fn updated((i, letter): (usize, char)) -> UpdatedApp {
        let ending = |reason: &str| Ending { reason: reason.to_owned(), ..Ending::default() };
        let (state, ending) = match letter {
            'r' => (Some(DeploymentState::Verifying), None),
            'd' => (Some(DeploymentState::Live), None),
            'f' => (Some(DeploymentState::Failed), Some(ending("InstanceExited"))),
            'b' => (Some(DeploymentState::RolledBack), Some(ending("ErrorRateTooHigh"))),
            'o' => (Some(DeploymentState::Cancelled), Some(ending("Superseded"))),
            _ => (None, None),
        };
        UpdatedApp {
            app: format!("app{i}").parse().unwrap(),
            exists: letter != 'x',
            deployment: state.map(|_| 2),
            state,
            ending,
            failure: None,
        }
    }

    /// What follows for so many at once, of which so many may fail: how many are begun, or how it
    /// ends.
    fn next(letters: &str, parallel: usize, may_fail: usize) -> Result<usize, OperationState> {
        let apps = letters.chars().enumerate().map(updated).collect();
        let update = RollingUpdate { image: "a".to_owned(), parallel, may_fail, apps };
        match step(&update, &world(), Moment(1)) {
            Step::Wait => Ok(0),
            Step::Deploy(apps) => Ok(apps.len()),
            Step::End(state, _) => Err(state),
        }
    }

    #[test]
    fn so_many_are_on_their_way_at_once_and_no_other_is_begun_after_too_many_failures() {
        use OperationState::{Failed, Succeeded};
        for (letters, parallel, may_fail, expected) in [
            ("wwww", 1, 0, Ok(1)),
            ("rwww", 1, 0, Ok(0)),
            ("rdww", 3, 0, Ok(2)),
            ("drrw", 2, 0, Ok(0)),
            ("dddw", 4, 0, Ok(1)),
            ("dddd", 1, 0, Err(Succeeded)),
            // What was deleted or overtaken by another deployment holds up nothing.
            ("dxow", 1, 0, Ok(1)),
            ("dxod", 1, 0, Err(Succeeded)),
            // Those on their way come to their end first.
            ("frww", 3, 0, Ok(0)),
            ("fdww", 3, 0, Err(Failed)),
            ("bdww", 3, 0, Err(Failed)),
            ("fwww", 1, 1, Ok(1)),
            ("fbww", 1, 1, Err(Failed)),
            ("fddd", 1, 1, Err(Succeeded)),
        ] {
            let found = next(letters, parallel, may_fail);
            assert_eq!(found, expected, "{letters}, {parallel} at once, {may_fail} may fail");
        }
    }

    #[test]
    fn how_far_it_is_is_told_with_the_first_that_failed() {
        let mut apps: Vec<_> = "dxrfb".chars().enumerate().map(updated).collect();
        apps[3].failure = Some("its spec is not valid".to_owned());
        let update = RollingUpdate { image: "a".to_owned(), parallel: 1, may_fail: 0, apps };
        assert_eq!(
            summary(&update, &world(), Moment(1)),
            "1 of 5 apps are updated, 1 on their way, 2 failed, 1 left out \
             (app3: its spec is not valid)"
        );
    }
}
