//! The gate: no snapshot is served that has not been looked at.
//!
//! Whatever is wrong with it, the data plane goes on with what it has. An object whose change is
//! refused is served as before, and the others' changes go through: one bad object stops nobody
//! else's deployment or wake. It costs what has changed, not what there is.

mod check;
mod loss;
mod size;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use weir_config::{Desired, Moment, Snapshot};

use self::{loss::Loss, size::Size};
use crate::{observed::Observed, quarantine::Quarantine, subject::Subject};

/// Of what is served, what may be lost at once without anybody having asked for it.
const MOST_NAMES_PERCENT: u64 = 20;
const MOST_ENDPOINTS_PERCENT: u64 = 50;
const MOST_RECORDS_PERCENT: u64 = 20;
/// So few are no catastrophe, whatever share they are.
const FEW: u64 = 20;
/// A loss that is still there after this is taken for the truth.
const HOLD: Duration = Duration::from_secs(60);
/// How soon what was refused is looked at again though nothing happens.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Why a change is not served.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) cause: Cause,
    /// A sentence for the operator.
    pub(crate) message: String,
    pub(crate) since: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It could not be served as it is.
    Broken,
    /// Part of a loss that nobody has asked for; let through when it lasts, or is confirmed.
    Held { until: Moment },
    /// The process has died twice while it was first served.
    Quarantined { until: Moment },
}

impl Cause {
    /// A stable word for programs: the `reason` of a condition.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "SnapshotRefused",
            Self::Held { .. } => "SnapshotHeld",
            Self::Quarantined { .. } => "SnapshotQuarantined",
        }
    }
}

/// Who is served as before, though the plan would change it.
pub(crate) type Refusals = imbl::OrdMap<Subject, Refusal>;

#[derive(Debug)]
pub(crate) struct Gate {
    /// Of everything that is served.
    size: Size,
    /// Those that an operator has deleted and that may still be served, and zones that an operator
    /// has changed: what goes with that was asked for.
    asked: BTreeSet<Subject>,
    quarantine: Quarantine,
    held_since: Option<Moment>,
    confirmed: bool,
    refusals: Refusals,
}

impl Gate {
    pub(crate) fn new(served: &Snapshot, quarantine: Quarantine) -> Self {
        Self {
            size: Size::of_all(served),
            asked: BTreeSet::new(),
            quarantine,
            held_since: None,
            confirmed: false,
            refusals: Refusals::new(),
        }
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Those to be looked at with every plan: whether a loss goes through depends on all of it.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Subject> {
        let is_held = |refusal: &Refusal| matches!(refusal.cause, Cause::Held { .. });
        // Nearly always there is none.
        let refusals = self.held_since.is_some().then(|| self.refusals.iter());
        refusals.into_iter().flatten().filter(move |(_, r)| is_held(r)).map(|(s, _)| s)
    }

    /// When a refused one is to be looked at again.
    pub(crate) fn look_again(&self, subject: &Subject, now: Moment) -> Option<Moment> {
        Some(match self.refusals.get(subject)?.cause {
            Cause::Broken => now + LOOK_AGAIN,
            Cause::Held { until } | Cause::Quarantined { until } => until,
        })
    }

    /// An operator has written this object.
    pub(crate) fn written(&mut self, subject: &Subject) {
        match subject {
            Subject::Zone(_) => _ = self.asked.insert(subject.clone()),
            Subject::App(_) | Subject::Shard(_) | Subject::Policy(_) => {
                self.asked.remove(subject);
            }
        }
        self.quarantine.release(subject);
    }

    pub(crate) fn deleted(&mut self, subject: Subject) {
        self.quarantine.release(&subject);
        self.asked.insert(subject);
    }

    /// An operator says that what is held is right, and that the process did not die of what is in
    /// quarantine.
    pub(crate) fn confirm(&mut self) {
        self.confirmed = self.held_since.is_some();
        self.quarantine = Quarantine::default();
    }

    /// What of the snapshot that the plan offers is to be served; `None` if nothing of it is, or
    /// there is none. `planned` are those that the plan looked at, changed or not.
    pub(crate) fn check<'a>(
        &mut self,
        offered: Option<(Arc<Snapshot>, BTreeSet<Subject>)>,
        planned: impl Iterator<Item = &'a Subject>,
        desired: &Desired,
        observed: &Observed,
        now: Moment,
    ) -> Option<(Arc<Snapshot>, BTreeSet<Subject>)> {
        let Some((candidate, mut changed)) = offered else {
            self.note(planned, BTreeMap::new(), now);
            return None;
        };
        let served = &observed.served;
        let view = View { served, candidate: &candidate, desired, observed };
        let mut refused = BTreeMap::new();
        for subject in &changed {
            let found = check::subject(subject, &view).map(|message| (Cause::Broken, message));
            let found = found.or_else(|| self.quarantine.finds(subject, &candidate, now));
            refused.extend(found.map(|found| (subject.clone(), found)));
        }
        self.bound_size(&changed, &view, &mut refused);
        self.guard_losses(&changed, &view, &mut refused, now);
        keep_former_owners(&changed, &view, &mut refused);
        changed.retain(|subject| !refused.contains_key(subject));
        let snapshot = with_changes(&view, &changed);
        self.note(planned, refused, now);
        snapshot.map(|snapshot| (snapshot, changed))
    }

    /// Takes in that a snapshot is served now instead of `former`.
    pub(crate) fn published(
        &mut self,
        former: &Snapshot,
        served: &Snapshot,
        changed: &BTreeSet<Subject>,
    ) {
        for subject in changed {
            self.size = self.size + Size::of(served, subject) - Size::of(former, subject);
        }
    }

    /// Refuses those that grow beyond what all together may be.
    fn bound_size(&self, changed: &BTreeSet<Subject>, view: &View<'_>, refused: &mut Refused) {
        let mut size = self.size;
        for subject in changed.iter().filter(|s| !refused.contains_key(*s)).collect::<Vec<_>>() {
            let (former, latter) =
                (Size::of(view.served, subject), Size::of(view.candidate, subject));
            let next = size + latter - former;
            match next.too_much() {
                Some(why) if latter.exceeds(former) => {
                    refused.insert(subject.clone(), (Cause::Broken, why));
                }
                _ => size = next,
            }
        }
    }

    /// Holds those that lose what nobody asked for, if that is much of everything.
    fn guard_losses(
        &mut self,
        changed: &BTreeSet<Subject>,
        view: &View<'_>,
        refused: &mut Refused,
        now: Moment,
    ) {
        let losses = changed.iter().filter(|subject| !refused.contains_key(*subject));
        let losses = losses.map(|subject| (subject, Loss::of(subject, view, &self.asked)));
        let losses: Vec<_> = losses.filter(|(_, loss)| !loss.is_none()).collect();
        let all = losses.iter().fold(Loss::default(), |sum, (_, loss)| sum + *loss);
        let Some(message) = all.too_much(&self.size) else {
            (self.held_since, self.confirmed) = (None, false);
            return;
        };
        let until = *self.held_since.get_or_insert(now) + HOLD;
        if self.confirmed || until <= now {
            (self.held_since, self.confirmed) = (None, false);
            return;
        }
        for (subject, _) in losses {
            refused.insert(subject.clone(), (Cause::Held { until }, message.clone()));
        }
    }

    /// Notes what has come of those that were looked at.
    fn note<'a>(
        &mut self,
        planned: impl Iterator<Item = &'a Subject>,
        mut refused: Refused,
        now: Moment,
    ) {
        for subject in planned {
            if !self.asked.is_empty() && !refused.contains_key(subject) {
                self.asked.remove(subject);
            }
            let Some((cause, message)) = refused.remove(subject) else {
                if !self.refusals.is_empty() && self.refusals.remove(subject).is_some() {
                    tracing::info!(%subject, "its change is no longer refused");
                }
                continue;
            };
            let former = self.refusals.get(subject);
            // Of a loss the numbers change while it is held.
            let former = former.filter(|former| {
                former.cause == cause
                    && (former.message == message || matches!(cause, Cause::Held { .. }))
            });
            if former.is_none() {
                tracing::error!(%subject, ?cause, message, "a change is not served");
            }
            let since = former.map_or(now, |former| former.since);
            self.refusals.insert(subject.clone(), Refusal { cause, message, since });
        }
    }
}

type Refused = BTreeMap<Subject, (Cause, String)>;

/// What a check looks at.
struct View<'a> {
    served: &'a Snapshot,
    candidate: &'a Snapshot,
    desired: &'a Desired,
    observed: &'a Observed,
}

/// Refuses the change of an app that gives a host name to one whose change is refused: else nobody
/// would serve it.
fn keep_former_owners(changed: &BTreeSet<Subject>, view: &View<'_>, refused: &mut Refused) {
    let mut left: Vec<_> = refused.keys().cloned().collect();
    while let Some(subject) = left.pop() {
        let Subject::App(name) = &subject else { continue };
        let Some(route) = view.candidate.app(name) else { continue };
        for hostname in &route.hostnames {
            let owner = view.served.route(&hostname.host, hostname.path());
            let owner = owner.filter(|owner| owner.hostnames.contains(hostname));
            let Some(owner) = owner.map(|owner| Subject::App(owner.app.clone())) else { continue };
            if changed.contains(&owner) && !refused.contains_key(&owner) {
                let message = format!("it gives {hostname} to {subject}, whose change is refused");
                refused.insert(owner.clone(), (Cause::Broken, message));
                left.push(owner);
            }
        }
    }
}

/// What is served, with the changes of these and with nothing else; `None` if that is no change at
/// all.
fn with_changes(view: &View<'_>, accepted: &BTreeSet<Subject>) -> Option<Arc<Snapshot>> {
    let View { served, candidate, .. } = view;
    let mut snapshot = (*served).clone();
    // First what goes, so that a name is free for its next owner.
    for subject in accepted {
        match subject {
            Subject::App(name) if candidate.app(name).is_none() => snapshot.remove(name),
            Subject::Shard(name) if candidate.shard(name).is_none() => snapshot.remove_shard(name),
            Subject::Policy(name) if candidate.policy(name).is_none() => {
                snapshot.remove_policy(name);
            }
            Subject::Zone(name) if candidate.zone(name.dns()).is_none() => {
                snapshot.remove_zone(name.dns());
            }
            _ => {}
        }
    }
    for subject in accepted {
        match subject {
            Subject::App(name) => {
                if let Some(route) = candidate.app(name) {
                    snapshot.insert((**route).clone());
                }
            }
            Subject::Shard(name) => {
                if let Some(pool) = candidate.shard(name) {
                    snapshot.insert_shard(name.clone(), pool.clone());
                }
            }
            Subject::Policy(name) => {
                if let Some(steered) = candidate.policy(name) {
                    snapshot.insert_policy(steered.clone());
                }
            }
            Subject::Zone(name) => {
                if let Some(zone) = candidate.zone(name.dns()) {
                    snapshot.insert_zone(zone.clone());
                }
            }
        }
    }
    match check::certificates(served, candidate) {
        Ok(()) => snapshot.certificates = candidate.certificates.clone(),
        Err(message) => tracing::error!(message, "the certificates are not served"),
    }
    let is_same = accepted.is_empty()
        && candidate.revision == served.revision
        && Arc::ptr_eq(&snapshot.certificates, &served.certificates)
        && candidate.http_challenges.ptr_eq(&served.http_challenges)
        && candidate.tls_challenges.ptr_eq(&served.tls_challenges);
    snapshot.http_challenges = candidate.http_challenges.clone();
    snapshot.tls_challenges = candidate.tls_challenges.clone();
    snapshot.generation = served.generation + 1;
    snapshot.revision = candidate.revision;
    (!is_same).then(|| Arc::new(snapshot))
}
