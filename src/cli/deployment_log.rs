//! The log of a deployment: its steps, and what its instances wrote until it was settled.

use weir_control::api::wire::{LogRecord, StepRecord};

use super::{
    client::Client,
    outcome::{Outcome, say, say_aside},
    sse::{Event, Events},
};

/// Prints the log of a deployment until its end.
pub(super) async fn print(client: &Client, app: &str, number: u64) -> anyhow::Result<Outcome> {
    let number = number.to_string();
    let mut events = Events::of(client, &["apps", app, "deployments", &number, "logs"]);
    while let Some(Event { what, data }) = events.next().await? {
        match what.as_str() {
            "step" => say(step(&serde_json::from_str(&data)?))?,
            "log" => say(line(&serde_json::from_str(&data)?))?,
            "truncated" => say_aside("(the beginning of the log is no longer kept)")?,
            "end" => return Ok(outcome(&data)),
            // Of a newer server.
            _ => {}
        }
    }
    Ok(Outcome::Done)
}

fn step(step: &StepRecord) -> String {
    format!("  {}  {}", step.r#type, step.message)
}

fn line(record: &LogRecord) -> String {
    format!("  {} | {}", record.instance, record.text)
}

fn outcome(end: &str) -> Outcome {
    let end: serde_json::Value = serde_json::from_str(end).unwrap_or_default();
    match end["state"].as_str() {
        Some("live") => Outcome::Done,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_live_deployment_has_succeeded() {
        let ended = |state| outcome(&format!("{{\"state\":\"{state}\"}}"));
        assert_eq!(ended("live"), Outcome::Done);
        for state in ["failed", "superseded", "deleted"] {
            assert_eq!(ended(state), Outcome::Failed, "{state}");
        }
    }
}
