//! What is said of deployments.

use weir_config::{App, Deployment, DeploymentState, DesiredApp, Source, Template};

use crate::{
    api::wire::{Condition, DeploymentResource, FailureDetails, RolloutPreview},
    store::DeploymentRecord,
    time::rfc3339,
    transition::ASKED_FOR,
};

/// The deployment of the spec, if it came to nothing and nobody has asked for that.
pub(crate) fn failed(app: &DesiredApp) -> Option<&Deployment> {
    let newest = app.newest()?;
    let is_asked_for = newest.ending.as_ref().is_some_and(|ending| ending.reason == ASKED_FOR);
    match newest.state {
        DeploymentState::Failed => Some(newest),
        DeploymentState::RolledBack if !is_asked_for => Some(newest),
        _ => None,
    }
}

/// Why a deployment came to nothing.
pub(super) fn failure(deployment: &Deployment) -> Option<FailureDetails> {
    let ending = deployment.ending.as_deref()?;
    Some(FailureDetails {
        reason: ending.reason.clone(),
        message: ending.message.clone(),
        instance: ending
            .instance
            .clone()
            .unwrap_or_else(|| format!("deployment {}", deployment.number)),
        exit_code: ending.exit_code,
        log_tail: ending.log_tail.clone(),
        retry_in: None,
    })
}

/// How far a deployment is, in words.
pub(super) fn progress(deployment: &Deployment) -> String {
    let Deployment { number, state, step, .. } = deployment;
    match (state, step) {
        (DeploymentState::Shifting, step) if *step > 0 => {
            format!("deployment {number} is shifting, step {}", step + 1)
        }
        (state, _) => format!("deployment {number} is {}", state.as_str()),
    }
}

/// Whether the newest deployment, which is the one of the spec, is live.
pub(super) fn up_to_date(app: &DesiredApp) -> Option<Condition> {
    let newest = app.newest().filter(|_| app.is_image())?;
    let is_live = newest.state == DeploymentState::Live;
    let (status, reason, message) = match (is_live, newest.state.is_under_way(), app.live()) {
        (true, ..) => ("true", "Live", format!("deployment {} is live", newest.number)),
        (_, true, _) => ("false", "Progressing", progress(newest)),
        (_, _, Some(live)) => {
            let message = format!("deployment {} is live; {}", live.number, progress(newest));
            ("false", "AnotherIsLive", message)
        }
        (_, _, None) => ("false", "NoneIsLive", progress(newest)),
    };
    Some(Condition {
        kind: "UpToDate".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: app.generation,
        last_transition_at: String::new(),
    })
}

/// How an app would be rolled out in the place of what it is now.
pub(crate) fn preview(wanted: &App, now: Option<&DesiredApp>) -> RolloutPreview {
    let say = |deploys, way: &str, gap, message: String| RolloutPreview {
        deploys,
        way: way.to_owned(),
        gap,
        message,
    };
    let Source::Image(template) = &wanted.source else {
        return say(false, "none", false, "no containers of its own".to_owned());
    };
    let newest = now.and_then(DesiredApp::newest);
    // Its secrets are no part of what is written.
    let is_same = |newest: &Deployment| {
        let secrets = newest.template.secrets.clone();
        *newest.template == Template { secrets, ..(**template).clone() }
    };
    if newest.is_some_and(is_same) {
        return say(false, "none", false, "the containers stay as they are".to_owned());
    }
    let Some(live) = now.and_then(DesiredApp::live) else {
        return say(true, "first", true, "requests wait until it is ready".to_owned());
    };
    if let Some(contention) = template.contends_with(&live.template) {
        let message = format!("stop-first, because {contention}: requests wait meanwhile");
        return say(true, "stop-first", true, message);
    }
    let way = wanted.rollout.strategy.as_str();
    say(true, way, false, format!("{way}, without a gap"))
}

/// A deployment as the API shows it.
pub(crate) fn resource(record: DeploymentRecord) -> DeploymentResource {
    let DeploymentRecord { deployment, created_at, since, kept_until } = record;
    DeploymentResource {
        number: deployment.number,
        state: deployment.state,
        step: deployment.step,
        cause: deployment.cause,
        image: deployment.template.image.clone(),
        created_at: rfc3339(created_at),
        since: rfc3339(since),
        kept_until: kept_until.map(rfc3339),
        ending: deployment.ending.as_deref().cloned(),
    }
}
