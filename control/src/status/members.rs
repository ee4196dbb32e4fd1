//! The status of shards, and of apps that are no images.

use std::sync::Arc;

use weir_config::{
    Activity, DesiredApp, FailoverName, MemberOf, RouteState, Shard, Source, Steered,
};

use super::Standing;
use crate::{
    api::wire::{FailureDetails, MemberStatus, Phase, ShardStatus},
    failure::FailureReason,
    health::Health,
    members::Seen,
    observed::Observed,
    reconciler::World,
};

/// The status of a shard that the loop has taken in.
pub(crate) fn shard_status(
    shard: &Shard,
    generation: u64,
    observed: &Observed,
    activity: &Activity,
) -> ShardStatus {
    let of = MemberOf::Shard(shard.name.clone());
    let members: Vec<_> = observed.members.seen(&of, &shard.members).collect();
    ShardStatus {
        phase: phase(&members),
        observed_generation: generation,
        ready_members: ready(&members),
        members: members.iter().map(|member| show(member, activity)).collect(),
    }
}

/// How an app that is no image stands.
pub(super) fn standing(app: &DesiredApp, world: &World) -> Standing {
    if let Source::Failover(policy) = &app.app.source {
        return before_targets(app, policy, world);
    }
    let members = behind(app, world);
    let phase = phase(&members);
    let failure = members.iter().find_map(failure).filter(|_| phase != Phase::Progressing);
    let wanted = members.len() as u16;
    Standing { phase, ready: ready(&members), wanted, failure, noun: "members", why_not: None }
}

/// How an app in front of a policy's targets stands: well while its clients have somebody to go to.
fn before_targets(app: &DesiredApp, policy: &FailoverName, world: &World) -> Standing {
    let served = &world.observed.served;
    let targets = served.policy(policy).map_or(&[][..], |steered| &steered.targets);
    let good = targets.iter().filter(|target| !target.is_down).count();
    let has_shares = |steered: &Arc<Steered>| !steered.steering.shares.is_nobody();
    let (phase, message) = match served.app(&app.app.name).map(|route| &route.state) {
        Some(RouteState::Unavailable { reason, .. }) => (Phase::Failed, Some(reason.clone())),
        Some(RouteState::Serving(_)) if !served.policy(policy).is_some_and(has_shares) => {
            let message = format!("no target of the failover policy {policy} has a share");
            (Phase::Failed, Some(message))
        }
        Some(RouteState::Serving(_)) if good == targets.len() => (Phase::Ready, None),
        Some(RouteState::Serving(_)) => (Phase::Degraded, None),
        _ => (Phase::Progressing, None),
    };
    let failure = message.map(|message| FailureDetails {
        reason: FailureReason::HealthCheckFailed.as_str().to_owned(),
        message,
        instance: String::new(),
        exit_code: None,
        log_tail: Vec::new(),
        retry_in: None,
    });
    let (ready, wanted) = (good as u16, targets.len() as u16);
    Standing { phase, ready, wanted, failure, noun: "targets", why_not: None }
}

/// The upstreams of an app, if it has any.
pub(super) fn upstreams(
    app: &DesiredApp,
    observed: &Observed,
    activity: &Activity,
) -> Vec<MemberStatus> {
    let Source::Upstreams(members) = &app.app.source else { return Vec::new() };
    let of = MemberOf::App(app.app.name.clone());
    observed.members.seen(&of, members).map(|member| show(&member, activity)).collect()
}

/// Whoever may answer an app's requests.
fn behind<'a>(app: &'a DesiredApp, world: &'a World) -> Vec<Seen<'a>> {
    let seen = |of, members| world.observed.members.seen(&of, members).collect::<Vec<_>>();
    match &app.app.source {
        Source::Image(_) | Source::Failover(_) => Vec::new(),
        Source::Upstreams(members) => seen(MemberOf::App(app.app.name.clone()), members),
        Source::Shards(names) => {
            let shards = names.iter().filter_map(|name| world.desired.shards.get(name));
            shards
                .flat_map(|shard| seen(MemberOf::Shard(shard.name.clone()), &shard.members))
                .collect()
        }
    }
}

fn ready(members: &[Seen<'_>]) -> u16 {
    members.iter().filter(|member| member.state.health.is_ready()).count() as u16
}

fn phase(members: &[Seen<'_>]) -> Phase {
    let unknown = members.iter().any(|member| !member.state.health.is_known());
    match usize::from(ready(members)) {
        all if all == members.len() => Phase::Ready,
        _ if unknown => Phase::Progressing,
        0 => Phase::Failed,
        _ => Phase::Degraded,
    }
}

fn failure(member: &Seen<'_>) -> Option<FailureDetails> {
    Some(FailureDetails {
        reason: FailureReason::HealthCheckFailed.as_str().to_owned(),
        message: member.state.health.error()?.to_owned(),
        instance: member.id.to_string(),
        exit_code: None,
        log_tail: Vec::new(),
        retry_in: None,
    })
}

/// One member as the API shows it.
fn show(member: &Seen<'_>, activity: &Activity) -> MemberStatus {
    let health = &member.state.health;
    let state = match health {
        Health::Starting { .. } => "starting",
        Health::Ready { .. } => "ready",
        Health::Unhealthy { .. } => "unhealthy",
    };
    MemberStatus {
        name: member.id.name.to_string(),
        address: member.state.address.to_string(),
        weight: member.weight,
        state: state.to_owned(),
        requests_in_flight: activity.in_flight_on(&member.id.clone().into()),
        message: health.error().map(str::to_owned),
    }
}
