//! Waiting for what comes of a change, and telling it.

use std::time::{Duration, Instant};

use clap::Args;
use weir_config::Span;
use weir_control::api::wire::{AppResource, FailureDetails, Phase};

use super::{
    client::Client,
    outcome::{Outcome, say, took},
    steps::Steps,
};

/// How long to wait for what comes of a change.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Waiting")]
pub(super) struct WaitArgs {
    /// Wait at most this long for the result; then the server goes on alone
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = Span::parse)]
    wait: Span,
    /// Do not wait: return as soon as the server has accepted
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

impl WaitArgs {
    /// `None` to not wait at all.
    pub(super) fn limit(self) -> Option<Duration> {
        (!self.no_wait).then_some(self.wait.0)
    }
}

/// Between two looks at what is on its way: short enough to see its steps.
pub(super) const ROUND: Duration = Duration::from_millis(100);

/// Follows an app that was written until it is settled, telling each step and the result.
pub(super) async fn follow(
    client: &Client,
    written: &AppResource,
    since: Instant,
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let name = &written.name;
    let mut steps = Steps::new(written.status.deployment.unwrap_or(u64::MAX));
    let mut app = written.clone();
    let mut told = String::new();
    loop {
        let elapsed = since.elapsed();
        let settled = is_settled(&app, written.generation);
        let state = format!("App/{name}  {}: {}", app.status.phase.as_str(), summary(&app));
        if !settled && state != told {
            say(&state)?;
            told = state;
        }
        for step in steps.look(&client.instances_of(name).await?) {
            say(format_args!("  {step}"))?;
        }
        if settled {
            return report(client, &app, elapsed).await;
        }
        let left = limit.saturating_sub(elapsed);
        if left.is_zero() {
            return report_late(&app, elapsed);
        }
        app = client.settled(&["apps", name], left.min(ROUND)).await?;
    }
}

/// Whether the status is about what was written, and final.
fn is_settled(app: &AppResource, generation: u64) -> bool {
    app.status.observed_generation >= generation && app.status.phase.is_settled()
}

/// Tells how an app has ended up and, if that is not well, why and what requests get meanwhile.
pub(super) async fn report(
    client: &Client,
    app: &AppResource,
    elapsed: Duration,
) -> anyhow::Result<Outcome> {
    let outcome = outcome_of(app.status.phase);
    say(result_line(app, elapsed))?;
    if outcome == Outcome::Done {
        return Ok(outcome);
    }
    for line in app.status.failure.iter().flat_map(failure_lines) {
        say(format_args!("    {line}"))?;
    }
    if let Some(host) = host_of(&app.status.url) {
        let answer = client.explain(&host).await?.answer;
        say(format_args!("    requests meanwhile: {answer}"))?;
    }
    Ok(outcome)
}

/// Tells that the time is up.
pub(super) fn report_late(app: &AppResource, elapsed: Duration) -> anyhow::Result<Outcome> {
    let (name, phase) = (&app.name, app.status.phase.as_str());
    let (time, why) = (took(elapsed), summary(app));
    say(format_args!("App/{name}  still {phase} after {time}: {why}"))?;
    say(format_args!("    the server goes on; see it by: weir get apps {name}"))?;
    Ok(Outcome::TimedOut)
}

/// Tells that a change is accepted and nobody waits for it.
pub(super) fn report_accepted(app: &AppResource) -> anyhow::Result<Outcome> {
    let (name, phase) = (&app.name, app.status.phase.as_str());
    say(format_args!("App/{name}  accepted, {phase}; see it by: weir get apps {name}"))?;
    Ok(Outcome::Done)
}

/// Whether an app in this phase serves as it should, or will when asked.
pub(super) fn is_well(phase: Phase) -> bool {
    outcome_of(phase) == Outcome::Done
}

pub(super) fn outcome_of(phase: Phase) -> Outcome {
    match phase {
        Phase::Ready | Phase::Paused | Phase::Stopped => Outcome::Done,
        Phase::Degraded | Phase::Failed => Outcome::Failed,
        Phase::Progressing | Phase::Unknown => Outcome::TimedOut,
    }
}

fn result_line(app: &AppResource, elapsed: Duration) -> String {
    let (name, phase, time) = (&app.name, app.status.phase.as_str(), took(elapsed));
    match outcome_of(app.status.phase) {
        Outcome::Done => format!("App/{name}  {phase} in {time}  {}", app.status.url),
        _ => format!("App/{name}  {phase} after {time}: {}", summary(app)),
    }
}

/// Why the app is not ready, or how far it is.
fn summary(app: &AppResource) -> String {
    let ready = app.status.conditions.iter().find(|condition| condition.kind == "Ready");
    match (&app.status.failure, ready) {
        (Some(failure), _) => failure.message.clone(),
        (None, Some(ready)) => ready.message.clone(),
        (None, None) => "the control loop has not seen it yet".to_owned(),
    }
}

fn failure_lines(failure: &FailureDetails) -> Vec<String> {
    let mut facts = format!("{}: {}", failure.instance, failure.reason);
    if let Some(code) = failure.exit_code {
        facts.push_str(&format!(", exit code {code}"));
    }
    if let Some(seconds) = failure.retry_in {
        facts.push_str(&format!(", tried again in {seconds}s"));
    }
    let log = failure.log_tail.iter().map(|line| format!("| {line}"));
    std::iter::once(facts).chain(log).collect()
}

fn host_of(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(phase: &str, failure: &serde_json::Value) -> AppResource {
        let status = json!({
            "phase": phase, "observed_generation": 2, "url": "https://shop.weir.localhost:8443/",
            "deployment": 2, "image": "shop:2", "ready_instances": 0, "desired_instances": 1,
            "requests_in_flight": 0, "failure": failure,
            "conditions": [{"type": "Ready", "status": "false", "reason": "Progressing",
                "message": "0 of 1 instances are ready", "observed_generation": 2}],
        });
        let app = json!({
            "kind": "App", "name": "shop", "generation": 2, "revision": 7,
            "created_at": "", "updated_at": "", "spec": {"image": "shop:2"}, "status": status,
        });
        serde_json::from_value(app).unwrap()
    }

    #[test]
    fn a_status_about_an_older_spec_settles_nothing() {
        let ready = app("ready", &json!(null));
        assert!(is_settled(&ready, 2) && !is_settled(&ready, 3));
        assert!(!is_settled(&app("progressing", &json!(null)), 2));
    }

    #[test]
    fn the_exit_code_tells_how_it_ended() {
        let codes = ["ready", "paused", "stopped", "degraded", "failed", "progressing", "unknown"]
            .map(|phase| outcome_of(app(phase, &json!(null)).status.phase).code());
        assert_eq!(codes, [0, 0, 0, 3, 3, 4, 4]);
    }

    #[test]
    fn a_success_says_where_and_how_fast() {
        assert_eq!(
            result_line(&app("ready", &json!(null)), Duration::from_millis(1234)),
            "App/shop  ready in 1.2s  https://shop.weir.localhost:8443/"
        );
    }

    #[test]
    fn a_failure_says_why_with_exit_code_and_log() {
        let failure = json!({"reason": "InstanceExited", "message": "exited with code 1",
            "instance": "shop-2-0", "exit_code": 1, "log_tail": ["no DATABASE_URL"], "retry_in": 5});
        let app = app("failed", &failure);
        assert_eq!(
            result_line(&app, Duration::from_millis(600)),
            "App/shop  failed after 600ms: exited with code 1"
        );
        let lines: Vec<_> = app.status.failure.iter().flat_map(failure_lines).collect();
        let facts = "shop-2-0: InstanceExited, exit code 1, tried again in 5s";
        assert_eq!(lines, [facts, "| no DATABASE_URL"]);
    }

    #[test]
    fn what_requests_get_is_asked_for_by_host() {
        let url = "https://shop.weir.localhost:8443/";
        assert_eq!(host_of(url).as_deref(), Some("shop.weir.localhost"));
        assert_eq!(host_of(""), None);
    }
}
