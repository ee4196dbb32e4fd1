//! The status of failover policies, and what would become of them.

use std::net::IpAddr;

use serde::Serialize;
use weir_config::{
    Answers, DnsName, FailoverPolicy, FailoverTarget, Moment, RecordType, Steered, TargetName,
    TargetPlace, WHOLE,
};
use weir_failover::{Frozen, Health, Hold, Phase, Standing};

use crate::{
    api::wire::{
        FailoverDecision, FailoverHealth, FailoverHold, FailoverIncident, FailoverSimulation,
        SimulatedAnswer, SimulatedShare, TargetHealth, WrittenByHand,
    },
    failover::{FailoverStatus, IncidentStatus, Simulated, TargetStatus},
    reconciler::World,
    time::rfc3339,
};

/// What leads somewhere, if somebody has written it.
const LEADING: [RecordType; 3] = [RecordType::A, RecordType::AAAA, RecordType::CNAME];

/// How a policy is: what its controller says, and what the world does.
pub(crate) fn failover_health(
    policy: &FailoverPolicy,
    status: &FailoverStatus,
    world: &World,
) -> FailoverHealth {
    let steered = world.observed.served.policy(&policy.name).map(AsRef::as_ref);
    let targets = policy.targets.iter().zip(&status.targets).enumerate();
    let targets = targets.map(|(place, (meant, seen))| {
        let decided = status.decided.shares.of(place);
        target_health(meant, seen, decided, error_rate(steered, &meant.name))
    });
    let primary = status.targets.iter().filter(|target| target.share > 0);
    let primary = primary.reduce(|best, next| if next.share > best.share { next } else { best });
    let is_other = |target: &&TargetStatus| primary.is_none_or(|one| one.name != target.name);
    let is_ready = |target: &TargetStatus| {
        target.health.is_good() && !matches!(target.standing, Standing::Out { .. })
    };
    let standby = status.targets.iter().filter(is_other).find(|target| is_ready(target));
    let name = |target: &TargetStatus| target.name.to_string();
    FailoverHealth {
        policy: policy.name.to_string(),
        mode: status.mode,
        overall: overall(status).to_owned(),
        phase: word(&status.phase),
        primary: primary.map(name),
        standby: standby.map(name),
        epoch: status.served.epoch,
        ttl: status.served.ttl.as_secs(),
        hold: hold(policy, status.hold),
        targets: targets.collect(),
        written_by_hand: written_by_hand(policy, world),
        elsewhere: None,
        incident: status.incident.as_ref().map(incident),
    }
}

/// In a word: whether clients are served, and by whom they should be.
fn overall(status: &FailoverStatus) -> &'static str {
    let serving = || status.targets.iter().filter(|target| target.share > 0);
    if serving().all(|target| target.health == Health::Unknown) && serving().next().is_some() {
        return "unknown";
    }
    let is_down = |target: &TargetStatus| target.health == Health::Down;
    if status.phase == Phase::AllDown || serving().all(is_down) {
        return "down";
    }
    let is_well = |target: &TargetStatus| target.health == Health::Up;
    if status.targets.iter().all(is_well) && status.phase == Phase::Steady {
        return "healthy";
    }
    "degraded"
}

fn target_health(
    meant: &FailoverTarget,
    seen: &TargetStatus,
    decided: u16,
    error_rate: Option<f64>,
) -> TargetHealth {
    let held_until = match &seen.standing {
        Standing::Out { until, .. } => Some(at(*until)),
        _ => None,
    };
    TargetHealth {
        name: seen.name.to_string(),
        place: place(meant),
        addresses: seen.addresses.iter().map(ToString::to_string).collect(),
        share: percent(seen.share),
        decided_share: percent(decided),
        standing: standing(&seen.standing).to_owned(),
        held_until,
        health: word(&seen.health),
        latency_ms: seen.round_trip.map(|took| took.as_secs_f64() * 1000.0),
        error_rate,
        last_check: seen.asked.map(at),
        error: seen.error.clone(),
    }
}

fn standing(standing: &Standing) -> &'static str {
    match standing {
        Standing::In => "in",
        Standing::Aside => "aside",
        Standing::Easing { .. } => "easing",
        Standing::Out { .. } => "out",
        Standing::Returning { .. } => "returning",
    }
}

/// The part of clients' requests to a target that failed.
fn error_rate(steered: Option<&Steered>, target: &TargetName) -> Option<f64> {
    let endpoints = steered?.pool(target)?.endpoints().iter();
    let answers = endpoints.map(|endpoint| endpoint.activity.answers());
    let (failures, total) = answers.fold((0, 0), |(failures, total), answers: Answers| {
        (failures + answers.failures, total + answers.total())
    });
    (total > 0).then(|| failures as f64 / total as f64)
}

fn hold(policy: &FailoverPolicy, hold: Hold) -> Option<FailoverHold> {
    let (state, by, target, until) = match hold {
        Hold::None => return None,
        Hold::Frozen { by: Frozen::Operator, until } => ("frozen", "operator", None, until),
        Hold::Frozen { by: Frozen::Damping, until } => ("frozen", "damping", None, until),
        Hold::Forced { target, until } => ("forced", "operator", policy.targets.get(target), until),
    };
    Some(FailoverHold {
        state: state.to_owned(),
        by: by.to_owned(),
        target: target.map(|target| target.name.to_string()),
        until: at(until),
    })
}

/// The records that win over the policy, because operators have written them.
fn written_by_hand(policy: &FailoverPolicy, world: &World) -> Vec<WrittenByHand> {
    let written = policy.hostnames.iter().filter_map(|hostname| {
        let name = DnsName::from(hostname);
        let zone = world.desired.zones.get(world.observed.zones.zone_of(&name)?)?;
        let mut types: Vec<String> = LEADING
            .into_iter()
            .filter(|rtype| zone.custom.get(&name, *rtype).is_some())
            .map(|rtype| rtype.to_string())
            .collect();
        types.extend(zone.aliases.contains_key(&name).then(|| "ALIAS".to_owned()));
        let (hostname, zone) = (hostname.to_string(), zone.zone.name.to_string());
        (!types.is_empty()).then_some(WrittenByHand { hostname, zone, types })
    });
    written.collect()
}

fn incident(incident: &IncidentStatus) -> FailoverIncident {
    let millis = |took: std::time::Duration| took.as_millis() as u64;
    let figures = &incident.figures;
    let decisions = incident.lines.iter().map(|(when, action, detail)| FailoverDecision {
        at: at(*when),
        action: (*action).to_owned(),
        detail: detail.clone(),
    });
    FailoverIncident {
        opened_at: at(incident.opened),
        closed_at: incident.closed.map(at),
        to_decision_ms: figures.to_decision.map(millis),
        to_route_ms: figures.to_route.map(millis),
        to_dns_ms: figures.to_dns.map(millis),
        leaked_requests: figures.leaked_requests,
        retried_requests: figures.retried_requests,
        transitions: figures.transitions as u64,
        decisions: decisions.collect(),
    }
}

/// What would be answered, as the law would have it. `status` says where the targets are, and `own`
/// where this Weir is.
pub(crate) fn simulation(
    policy: &FailoverPolicy,
    status: &FailoverStatus,
    simulated: &Simulated,
    own: &[IpAddr],
) -> FailoverSimulation {
    let shares = policy.targets.iter().enumerate().map(|(place, target)| SimulatedShare {
        target: target.name.to_string(),
        share: percent(simulated.shares.of(place)),
    });
    let ttl = simulated.ttl.as_secs();
    let answers = simulated.clients.iter().map(|(client, target)| {
        let found = policy.targets.iter().zip(&status.targets);
        let found = target.as_ref().and_then(|name| found.clone().find(|(t, _)| t.name == *name));
        SimulatedAnswer {
            client: network(*client),
            target: target.as_ref().map(ToString::to_string),
            records: found.map(|(meant, seen)| records(meant, seen, own)).unwrap_or_default(),
            ttl,
        }
    });
    FailoverSimulation {
        shares: shares.collect(),
        decisions: simulated.decisions.clone(),
        answers: answers.collect(),
    }
}

/// What a client is told that goes to this target.
fn records(meant: &FailoverTarget, seen: &TargetStatus, own: &[IpAddr]) -> Vec<String> {
    let address = |address: &IpAddr| {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        format!("{kind} {address}")
    };
    match &meant.place {
        TargetPlace::Cdn(name) => vec![format!("CNAME {name}")],
        TargetPlace::Own => own.iter().map(address).collect(),
        TargetPlace::Addresses(_) => seen.addresses.iter().map(address).collect(),
    }
}

/// All clients of this one's bucket; see [`weir_config::Buckets`].
fn network(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let kept = u128::from(address) >> 72 << 72;
            format!("{}/56", std::net::Ipv6Addr::from(kept))
        }
    }
}

/// Where a target is, in a few words.
fn place(target: &FailoverTarget) -> String {
    if let Some(region) = &target.region {
        return format!("region {region}");
    }
    match &target.place {
        TargetPlace::Cdn(name) => name.to_string(),
        TargetPlace::Own => "own proxies".to_owned(),
        TargetPlace::Addresses(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            addresses.join(", ")
        }
    }
}

fn percent(part: u16) -> f64 {
    f64::from(part) * 100.0 / f64::from(WHOLE)
}

/// As the API writes it.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The clock of failover counts from the Unix epoch.
fn at(moment: Moment) -> String {
    rfc3339(i64::try_from(moment.0).unwrap_or(i64::MAX))
}
