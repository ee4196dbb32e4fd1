//! What would no longer be served though nobody asked for that.

use std::{collections::BTreeSet, ops::Add};

use weir_config::{AppName, Backends, DesiredApp, EndpointId, Pool, RouteState, Snapshot, Source};
use weir_deploy::ContainerState;

use super::{
    FEW, MOST_ENDPOINTS_PERCENT, MOST_NAMES_PERCENT, MOST_RECORDS_PERCENT, View, size::Size,
};
use crate::subject::Subject;

/// Without what was deleted or changed in its spec, put to sleep, moved or replaced, or whose
/// process is known to have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    names: u64,
    endpoints: u64,
    records: u64,
}

impl Loss {
    pub(super) fn of(subject: &Subject, view: &View<'_>, asked: &BTreeSet<Subject>) -> Self {
        if asked.contains(subject) {
            return Self::default();
        }
        let lost = |is_wanted: &dyn Fn(&EndpointId) -> bool| {
            let (former, latter) = (pool(view.served, subject), pool(view.candidate, subject));
            let there = |id: &EndpointId| latter.iter().any(|latter| has(latter, id));
            let gone = ids(former).filter(|id| is_wanted(id) && !there(id)).count();
            let fresh = ids(latter).filter(|id| !former.is_some_and(|pool| has(pool, id))).count();
            gone.saturating_sub(fresh) as u64
        };
        match subject {
            Subject::Shard(name) => {
                let members = view.desired.shards.get(name).map(|shard| &shard.members);
                let is_wanted = |id: &EndpointId| match (id, members) {
                    (_, None) => true,
                    (EndpointId::Member(id), Some(members)) => {
                        members.iter().any(|member| member.name == id.name)
                    }
                    (EndpointId::Instance(_), _) => false,
                };
                Self { endpoints: lost(&is_wanted), ..Self::default() }
            }
            // Which addresses its targets have, the targets say themselves.
            Subject::Policy(_) => Self::default(),
            Subject::Zone(name) => {
                let records =
                    |snapshot: &Snapshot| snapshot.zone(name.dns()).map_or(0, |zone| zone.len());
                let lost = records(view.served).saturating_sub(records(view.candidate));
                Self { records: lost as u64, ..Self::default() }
            }
            Subject::App(name) => match view.desired.apps.get(name) {
                None => {
                    let names = view.served.app(name).map_or(0, |route| route.hostnames.len());
                    Self { names: names as u64, endpoints: lost(&|_| true), records: 0 }
                }
                Some(_) if sleeps(view.candidate, name) => Self::default(),
                Some(app) => {
                    Self { endpoints: lost(&|id| should_serve(id, app, view)), ..Self::default() }
                }
            },
        }
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Why this is too much of all that is served, if it is.
    pub(super) fn too_much(&self, all: &Size) -> Option<String> {
        let parts = [
            (self.names, all.names, MOST_NAMES_PERCENT, "host names"),
            (self.endpoints, all.endpoints, MOST_ENDPOINTS_PERCENT, "endpoints"),
            (self.records, all.records, MOST_RECORDS_PERCENT, "records"),
        ];
        let (lost, all, _, what) = parts.into_iter().find(|(lost, all, percent, _)| {
            *lost > FEW && lost.saturating_mul(100) > all.saturating_mul(*percent)
        })?;
        Some(format!(
            "{lost} of {all} {what} would be lost at once though nobody has asked for it; it is \
             let through by `weir snapshot confirm`, or when it lasts"
        ))
    }
}

impl Add for Loss {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            names: self.names + other.names,
            endpoints: self.endpoints + other.endpoints,
            records: self.records + other.records,
        }
    }
}

/// Whether an endpoint that was served is one that should be, as far as anybody knows for certain.
fn should_serve(id: &EndpointId, app: &DesiredApp, view: &View<'_>) -> bool {
    match id {
        EndpointId::Member(id) => match &app.app.source {
            Source::Upstreams(members) => members.iter().any(|member| member.name == id.name),
            Source::Image(_) | Source::Shards(_) | Source::Failover(_) => false,
        },
        EndpointId::Instance(id) => {
            let is_current = app.target().is_some_and(|target| target.number == id.deployment)
                && id.ordinal < app.app.instances;
            let runs = view.observed.instances.get(id).is_some_and(|instance| {
                instance.state() == Some(ContainerState::Running)
                    && !instance.is_leaving()
                    && view.observed.host(&id.host).answers()
            });
            is_current && runs
        }
    }
}

fn sleeps(snapshot: &Snapshot, app: &AppName) -> bool {
    matches!(snapshot.app(app).map(|route| &route.state), Some(RouteState::Asleep(_)))
}

/// The pool that is a subject's own.
fn pool<'a>(snapshot: &'a Snapshot, subject: &Subject) -> Option<&'a Pool> {
    match subject {
        Subject::Zone(_) | Subject::Policy(_) => None,
        Subject::Shard(name) => snapshot.shard(name).map(AsRef::as_ref),
        Subject::App(name) => match &snapshot.app(name)?.state {
            RouteState::Serving(Backends::Own(pool)) => Some(pool),
            _ => None,
        },
    }
}

fn ids(pool: Option<&Pool>) -> impl Iterator<Item = &EndpointId> {
    pool.into_iter().flat_map(Pool::endpoints).map(|endpoint| &endpoint.id)
}

fn has(pool: &Pool, id: &EndpointId) -> bool {
    pool.endpoints().iter().any(|endpoint| endpoint.id == *id)
}
