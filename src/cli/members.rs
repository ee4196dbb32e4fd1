//! Waiting until it is known how the members of a shard are, and telling it.

use std::time::{Duration, Instant};

use weir_control::api::wire::{MemberStatus, ShardResource};

use super::{
    client::Client,
    outcome::{Outcome, say, took},
    progress::{ROUND, outcome_of},
};

/// Follows a shard that was written until each of its members is known to be ready or not.
pub(super) async fn follow_shard(
    client: &Client,
    written: &ShardResource,
    since: Instant,
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let name = &written.name;
    let mut shard = written.clone();
    loop {
        let elapsed = since.elapsed();
        let status = &shard.status;
        if status.observed_generation >= written.generation && status.phase.is_settled() {
            return report(&shard, elapsed);
        }
        let left = limit.saturating_sub(elapsed);
        if left.is_zero() {
            let (phase, time, count) = (status.phase.as_str(), took(elapsed), summary(&shard));
            say(format_args!("Shard/{name}  still {phase} after {time}: {count}"))?;
            say(format_args!("    the server goes on; see it by: weir get shards {name}"))?;
            return Ok(Outcome::TimedOut);
        }
        shard = client.settled(&["shards", name], left.min(ROUND)).await?;
    }
}

/// Tells that a change is accepted and nobody waits for it.
pub(super) fn report_accepted_shard(shard: &ShardResource) -> anyhow::Result<Outcome> {
    let (name, phase) = (&shard.name, shard.status.phase.as_str());
    say(format_args!("Shard/{name}  accepted, {phase}; see it by: weir get shards {name}"))?;
    Ok(Outcome::Done)
}

fn report(shard: &ShardResource, elapsed: Duration) -> anyhow::Result<Outcome> {
    for line in result_lines(shard, elapsed) {
        say(line)?;
    }
    Ok(outcome_of(shard.status.phase))
}

fn result_lines(shard: &ShardResource, elapsed: Duration) -> Vec<String> {
    let (name, phase, time) = (&shard.name, shard.status.phase.as_str(), took(elapsed));
    let count = summary(shard);
    let first = match outcome_of(shard.status.phase) {
        Outcome::Done => format!("Shard/{name}  {phase} in {time}  {count}"),
        _ => format!("Shard/{name}  {phase} after {time}: {count}"),
    };
    let unready = shard.status.members.iter().filter_map(|member| {
        let MemberStatus { name, state, message, .. } = member;
        Some(format!("    {name} is {state}: {}", message.as_ref()?))
    });
    std::iter::once(first).chain(unready).collect()
}

fn summary(shard: &ShardResource) -> String {
    let (ready, all) = (shard.status.ready_members, shard.spec.members.len());
    format!("{ready} of {all} members are ready")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_that_is_not_ready_is_named_with_the_reason() {
        let member = |name: &str, state: &str, message: Option<&str>| {
            json!({"name": name, "address": "10.0.0.1:80", "weight": 1, "state": state,
                "requests_in_flight": 0, "message": message})
        };
        let shard = json!({
            "kind": "Shard", "name": "east", "generation": 1, "revision": 7, "created_at": "",
            "updated_at": "",
            "spec": {"members": [{"address": "10.0.0.1:80"}, {"address": "10.0.0.2:80"}]},
            "status": {"phase": "degraded", "observed_generation": 1, "ready_members": 1,
                "members": [member("a", "ready", None), member("b", "unhealthy", Some("refused"))]},
        });
        let shard = serde_json::from_value(shard).unwrap();
        assert_eq!(
            result_lines(&shard, Duration::from_millis(40)),
            [
                "Shard/east  degraded after 40ms: 1 of 2 members are ready",
                "    b is unhealthy: refused"
            ]
        );
    }
}
