//! What counts as trouble: a pure reading of the world. `docs/incidents.md` says the same in words.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use weir_config::{
    AppName, Backends, DesiredApp, FailoverName, HostName, InstanceId, Moment, RouteState, Severity,
};

use super::Rule;
use crate::status;
use crate::{
    certificates::{Kept, Source},
    failover::FailoverTrouble,
    failure::FailureReason,
    gate::Cause,
    host::{HostSeen, HostState},
    instance::Instance,
    reconciler::World,
};

/// One thing that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) rule: Rule,
    /// As `App/shop`.
    pub(crate) subject: String,
    pub(crate) severity: Severity,
    pub(crate) title: String,
    pub(crate) detail: String,
}

/// What the world does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    /// The last write found no space.
    pub(crate) store_is_full: bool,
    /// Seconds since the Unix epoch.
    pub(crate) wall_clock: i64,
}

/// So many ends of a process within so long are a loop.
const LOOP_WITHIN: Duration = Duration::from_secs(600);
/// A certificate is renewed long before; with less than this left, renewing fails.
const CERTIFICATE_LEFT: i64 = 21 * 24 * 3600;
const CERTIFICATE_LEFT_AT_LAST: i64 = 3 * 24 * 3600;
/// One try may fail for a moment's reason; the second comes a minute later.
const FAILURES: u32 = 2;

/// Everything that is wrong. Of an app only the nearest cause is told, and nothing that follows
/// from a host that is away.
pub(crate) fn troubles(world: &World, around: Surroundings, now: Moment) -> Vec<Trouble> {
    let mut troubles: Vec<_> =
        world.observed.hosts.iter().filter_map(|(name, host)| of_host(name, host)).collect();
    troubles.extend(world.desired.apps.values().filter_map(|app| of_app(app, world, now)));
    troubles.extend(world.refusals.iter().map(|(subject, refusal)| {
        let (rule, severity, title) = match refusal.cause {
            Cause::Broken => (
                Rule::SnapshotRefused,
                Severity::Critical,
                format!("a change of {subject} is not served"),
            ),
            Cause::Held { .. } => (
                Rule::SnapshotHeld,
                Severity::Critical,
                "much of what is served would be lost at once: held".to_owned(),
            ),
            Cause::Quarantined { .. } => (
                Rule::SnapshotQuarantined,
                Severity::Critical,
                format!("{subject} is served as it was before: the process died of its change"),
            ),
        };
        // One loss, however many it is part of.
        let subject = match rule {
            Rule::SnapshotHeld => "Snapshot".to_owned(),
            _ => subject.to_string(),
        };
        Trouble { rule, subject, severity, title, detail: refusal.message.clone() }
    }));
    troubles.extend(failovers(world));
    troubles.extend(certificates(world, around.wall_clock));
    troubles.extend(unreadable(world));
    troubles.extend(around.store_is_full.then(|| Trouble {
        rule: Rule::StoreFull,
        subject: "Store".to_owned(),
        severity: Severity::Critical,
        title: "the disk of the state directory is full".to_owned(),
        detail: "nothing can be changed until space is freed; what is served goes on".to_owned(),
    }));
    troubles
}

/// What the law of failover has found wrong, of policies that are still there.
fn failovers(world: &World) -> impl Iterator<Item = Trouble> {
    let meant = |name: &&FailoverName| world.desired.policies.contains_key(*name);
    let seen = world.observed.policies.iter().filter(move |(name, _)| meant(name));
    seen.filter_map(|(name, seen)| {
        let FailoverTrouble { severity, title, detail } = seen.trouble.clone()?;
        let (rule, subject) = (Rule::Failover, format!("FailoverPolicy/{name}"));
        Some(Trouble { rule, subject, severity, title, detail })
    })
}

fn of_host(name: &HostName, host: &HostSeen) -> Option<Trouble> {
    let error = host.error.as_ref().filter(|_| is_away(host))?;
    Some(Trouble {
        rule: Rule::HostLost,
        subject: format!("Host/{name}"),
        severity: Severity::Critical,
        title: format!("the container engine of host {name} does not answer"),
        detail: error.clone(),
    })
}

/// Whether a host has been silent for longer than a restart of its engine takes.
fn is_away(host: &HostSeen) -> bool {
    host.error.is_some() && !host.answers() && host.state != HostState::Suspect
}

fn of_app(app: &DesiredApp, world: &World, now: Moment) -> Option<Trouble> {
    let name = &app.app.name;
    let serves = serves(name, world);
    let severity = if serves { Severity::Warning } else { Severity::Critical };
    let trouble = |rule, title: String, detail: String| {
        Some(Trouble { rule, subject: format!("App/{name}"), severity, title, detail })
    };
    let hosts = &world.observed.hosts;
    let current = current(app, world);
    let is_where_nothing_answers = match current.is_empty() {
        true => app.target().is_some() && hosts.values().any(is_away),
        false => current.iter().any(|(id, _)| is_away(world.observed.host(&id.host))),
    };
    if is_where_nothing_answers {
        return None;
    }
    let failed = current.iter().find(|(_, instance)| {
        instance.failure.is_some() && !instance.failed_by(FailureReason::EngineUnreachable)
    });
    if let Some(failed) = status::deployments::failed(app) {
        let detail = failed.ending.as_ref().map_or_else(String::new, |end| end.message.clone());
        let title = format!("deployment {} of {name} has failed", failed.number);
        return trouble(Rule::DeploymentFailed, title, detail);
    }
    let wake_wanted = world.observed.apps.get(name).is_some_and(|state| state.wake_wanted);
    if let Some((id, instance)) = failed {
        let detail = format!("{id}: {}", message(instance));
        if !instance.proven {
            let title = format!("deployment {} of {name} does not get ready", id.deployment);
            return trouble(Rule::DeploymentFailed, title, detail);
        }
        if wake_wanted && !serves {
            return trouble(Rule::WakeFailed, format!("{name} does not wake"), detail);
        }
    }
    let loops = |(_, instance): &&(&InstanceId, &Instance)| crashes_again_and_again(instance, now);
    if let Some((id, instance)) = current.iter().find(loops) {
        let detail = format!("{id}: {}", message(instance));
        return trouble(Rule::CrashLoop, format!("{name} crashes again and again"), detail);
    }
    let unavailable = match &world.observed.served.app(name)?.state {
        RouteState::Unavailable { reason, .. } => Some(reason.clone()),
        RouteState::Serving(_) if !serves => {
            Some("nobody that it sends requests to passes its health check".to_owned())
        }
        _ => None,
    };
    unavailable
        .and_then(|reason| trouble(Rule::AppUnhealthy, format!("nothing serves {name}"), reason))
}

/// What is known of the instances of an app's deployment.
fn current<'a>(app: &DesiredApp, world: &'a World) -> Vec<(&'a InstanceId, &'a Instance)> {
    let number = app.target().map(|target| target.number);
    let instances = world.observed.instances_of(&app.app.name);
    let is_current = |(id, _): &(&InstanceId, _)| {
        Some(id.deployment) == number && id.ordinal < app.app.instances
    };
    instances.filter(is_current).collect()
}

/// Whether requests for an app are sent to somebody.
fn serves(app: &AppName, world: &World) -> bool {
    let served = &world.observed.served;
    match served.app(app).map(|route| &route.state) {
        Some(RouteState::Serving(Backends::Own(pool))) => !pool.endpoints().is_empty(),
        Some(RouteState::Serving(Backends::Shards(shards))) => shards
            .iter()
            .any(|shard| served.shard(shard).is_some_and(|pool| !pool.endpoints().is_empty())),
        Some(RouteState::Serving(Backends::Failover(policy))) => {
            served.policy(policy).is_some_and(|steered| !steered.steering.shares.is_nobody())
        }
        _ => false,
    }
}

fn crashes_again_and_again(instance: &Instance, now: Moment) -> bool {
    let first = instance.crashes[0];
    first != Moment::default() && now < first + LOOP_WITHIN
}

fn message(instance: &Instance) -> String {
    instance.failure.as_ref().map_or_else(
        || format!("it has crashed {} times", instance.crashes.len()),
        |failure| failure.message.clone(),
    )
}

/// Those that end soon, and those that are not to be had.
fn certificates(world: &World, wall_clock: i64) -> Vec<Trouble> {
    let seen = &world.observed.certificates;
    let mut shown = BTreeMap::new();
    for certificate in seen.served.iter() {
        let Some(name) = certificate.names.first() else { continue };
        let is_let_go = |kept: &Arc<Kept>| kept.source == Source::Acme && kept.wanted.is_none();
        if !seen.kept.get(name).is_some_and(is_let_go) {
            shown.insert(name, certificate);
        }
    }
    let expiring = shown.into_iter().filter_map(|(name, certificate)| {
        let (begins, ends) = certificate.valid;
        let (left, life) = (ends - wall_clock, ends - begins);
        (left < CERTIFICATE_LEFT.min(life / 5)).then(|| Trouble {
            rule: Rule::CertificateExpiring,
            subject: format!("Certificate/{name}"),
            severity: match left < CERTIFICATE_LEFT_AT_LAST.min(life / 10) {
                true => Severity::Critical,
                false => Severity::Warning,
            },
            title: format!("the certificate of {name} ends soon and is not renewed"),
            detail: match seen.kept.get(name).map(|kept| &*kept.failures.message) {
                Some(message) if !message.is_empty() => {
                    format!("{} are left; {message}", left_in_words(left))
                }
                _ => format!("{} are left; the log says why", left_in_words(left)),
            },
        })
    });
    let failing = seen
        .kept
        .iter()
        .filter(|(_, kept)| kept.failures.count >= FAILURES || kept.failures.is_limited);
    let failing = failing.map(|(name, kept)| Trouble {
        rule: match kept.failures.is_limited {
            true => Rule::CertificateLimited,
            false => Rule::CertificateFailed,
        },
        subject: format!("Certificate/{name}"),
        severity: Severity::Warning,
        title: match (&kept.certificate, kept.failures.is_limited) {
            (_, true) => format!("an authority limits the orders of certificates for {name}"),
            (Some(_), _) => format!("the certificate of {name} cannot be renewed"),
            (None, _) => format!("no certificate can be had for {name}"),
        },
        detail: kept.failures.message.clone(),
    });
    expiring.chain(failing).collect()
}

fn left_in_words(seconds: i64) -> String {
    match seconds.div_euclid(24 * 3600) {
        0 => format!("{} hours", seconds.div_euclid(3600)),
        days => format!("{days} days"),
    }
}

fn unreadable(world: &World) -> impl Iterator<Item = Trouble> {
    let apps = world.desired.unreadable.iter().map(|name| format!("App/{name}"));
    let shards = world.desired.unreadable_shards.iter().map(|name| format!("Shard/{name}"));
    let hosts = world.desired.unreadable_hosts.iter().map(|name| format!("Host/{name}"));
    apps.chain(shards).chain(hosts).map(|subject| Trouble {
        rule: Rule::ObjectUnreadable,
        severity: Severity::Warning,
        title: format!("{subject} cannot be read by this version of Weir"),
        detail:
            "it is left as it is served; write it anew, or go back to the version that wrote it"
                .to_owned(),
        subject,
    })
}
