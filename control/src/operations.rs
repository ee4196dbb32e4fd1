//! What comes of an operation: computed from its target, so that the two cannot disagree, and noted
//! once it is final.

use std::time::Duration;

use weir_config::{AppName, DeploymentState, DesiredApp, Moment};

use crate::{
    api::wire::Phase,
    host::HostSeen,
    reconciler::World,
    status::{self, Standing},
    store::{Kind, Operation, OperationState, Outcome, Verb},
    time::unix_millis,
};

/// An app that does not fall asleep, or wake, in this time has been disturbed.
const ACTION_LIMIT: Duration = Duration::from_secs(60);

/// What has come of an operation; `None` while it goes on.
pub(crate) fn outcome(operation: &Operation, world: &World, now: Moment) -> Option<Outcome> {
    // What comes of these is known to who carries them on.
    if operation.is_conducted() {
        return None;
    }
    // After a restart, what was served is served on; nothing is known of what runs.
    if world.observed.hosts.values().any(HostSeen::is_expected) {
        return None;
    }
    let revision = operation.revision.unwrap_or_default();
    // A change is done when it is served.
    let served = world.observed.served.revision;
    if world.desired.revision < revision || served < revision {
        return None;
    }
    let (state, message) = if operation.is_of(Kind::App) {
        of_app(operation, &operation.target.name.parse().ok()?, world, now)?
    } else {
        (OperationState::Succeeded, String::new())
    };
    Some(Outcome { state, message, at: unix_millis() })
}

fn of_app(
    operation: &Operation,
    name: &AppName,
    world: &World,
    now: Moment,
) -> Option<(OperationState, String)> {
    let deletes = operation.verb == Verb::Delete.as_str();
    let Some(app) = world.desired.apps.get(name) else {
        if !deletes {
            let message = "the app has been deleted since".to_owned();
            return Some((OperationState::Superseded, message));
        }
        let left = world.observed.instances_of(name).count();
        return (left == 0).then(|| (OperationState::Succeeded, "nothing is left".to_owned()));
    };
    if app.generation != operation.target.generation || deletes {
        let message = format!("the app is at generation {} now", app.generation);
        return Some((OperationState::Superseded, message));
    }
    let standing = status::standing(app, world, now);
    match deployed(operation, app, &standing) {
        Deployed::Live => {}
        Deployed::UnderWay => return None,
        Deployed::Ended(why) => return Some((OperationState::Failed, why)),
    }
    let message = standing.summary();
    let state = match (Verb::parse(&operation.verb), standing.phase) {
        (Some(Verb::Sleep), Phase::Paused | Phase::Stopped) => OperationState::Succeeded,
        (Some(Verb::Wake), Phase::Ready) => OperationState::Succeeded,
        (Some(Verb::Sleep | Verb::Wake), _) => {
            let age = unix_millis() - operation.at;
            let is_late = age > ACTION_LIMIT.as_millis() as i64;
            return is_late.then_some((OperationState::Failed, message));
        }
        (_, Phase::Ready | Phase::Paused | Phase::Stopped) => OperationState::Succeeded,
        (_, Phase::Failed | Phase::Degraded) => OperationState::Failed,
        (_, Phase::Progressing | Phase::Unknown) => return None,
    };
    Some((state, message))
}

/// How far the deployment is that an operation is to make live.
enum Deployed {
    /// It is live, or all that it will be for now: how well is told by the app.
    Live,
    UnderWay,
    /// It is not live and will not be, for this reason.
    Ended(String),
}

/// One that was brought back is not the newest, and may fail while another serves well. Of an
/// operation that is not about one deployment it is the app as a whole that counts.
fn deployed(operation: &Operation, app: &DesiredApp, standing: &Standing) -> Deployed {
    let is_about_one =
        matches!(Verb::parse(&operation.verb), Some(Verb::Deploy | Verb::Promote | Verb::RollBack));
    let Some(number) = operation.target.deployment.filter(|_| is_about_one) else {
        return Deployed::Live;
    };
    let found = app.deployment(number);
    // Without anything that stands in for it, it is tried again and again.
    let fails_for_now = standing.phase == Phase::Failed && app.live().is_none();
    match found.map(|deployment| deployment.state) {
        Some(DeploymentState::Live) => Deployed::Live,
        Some(state) if state.is_under_way() && fails_for_now => Deployed::Live,
        Some(state) if state.is_under_way() => Deployed::UnderWay,
        _ => {
            let ending = found.and_then(|deployment| deployment.ending.as_deref());
            let why = ending.map(|ending| ending.message.clone());
            Deployed::Ended(why.unwrap_or_else(|| format!("deployment {number} is not live")))
        }
    }
}
