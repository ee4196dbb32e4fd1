//! Servers that something else keeps running, as control has seen them.

use std::{collections::BTreeMap, net::SocketAddr};

use imbl::ordmap::DiffItem;
use weir_config::{
    Activity, Endpoint, EndpointId, Member, MemberId, MemberName, MemberOf, Moment, Pool,
};

use crate::health::Health;

/// Every member of every shard, and every upstream of every app. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    known: imbl::OrdMap<MemberOf, imbl::OrdMap<MemberName, MemberState>>,
    /// Those that are no more, until no request is on them.
    gone: imbl::OrdSet<MemberId>,
    /// The last one given to a member.
    epoch: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberState {
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    /// Another one whenever it is new or has moved, so that a late probe of where it was is known.
    pub(crate) epoch: u64,
}

/// A member as it is meant and as it is known.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) id: MemberId,
    pub(crate) weight: u16,
    pub(crate) state: &'a MemberState,
}

impl Members {
    /// These members of a shard or an app as they are known, in their order.
    pub(crate) fn seen<'a>(
        &'a self,
        of: &MemberOf,
        members: &'a [Member],
    ) -> impl Iterator<Item = Seen<'a>> + use<'a> {
        let (of, known) = (of.clone(), self.known.get(of));
        members.iter().filter_map(move |member| {
            let state = known?.get(&member.name)?;
            let id = MemberId { of: of.clone(), name: member.name.clone() };
            Some(Seen { id, weight: member.weight, state })
        })
    }

    /// Makes the members of a shard or an app exactly these. One that is new or has moved is not
    /// ready before it is probed, unless requests are sent to it already, as after a restart.
    pub(crate) fn set(
        &mut self,
        of: &MemberOf,
        members: &[Member],
        served: Option<&Pool>,
        now: Moment,
    ) {
        let mut former = self.known.remove(of).unwrap_or_default();
        let served = by_name(served);
        let mut known = imbl::OrdMap::new();
        for Member { name, address, .. } in members {
            let stays = former.remove(name).filter(|state| state.address == *address);
            let state = stays.unwrap_or_else(|| {
                self.epoch += 1;
                let served = served.get(name).filter(|endpoint| endpoint.address == *address);
                let health = match served {
                    Some(endpoint) => Health::Ready { since: endpoint.ready_since },
                    None => Health::Starting { since: now, error: None },
                };
                MemberState { address: *address, health, epoch: self.epoch }
            });
            self.gone.remove(&MemberId { of: of.clone(), name: name.clone() });
            known.insert(name.clone(), state);
        }
        let gone = former.into_iter().map(|(name, _)| MemberId { of: of.clone(), name });
        self.gone.extend(gone);
        if !known.is_empty() {
            self.known.insert(of.clone(), known);
        }
    }

    pub(crate) fn probed(
        &mut self,
        id: &MemberId,
        epoch: u64,
        outcome: Result<(), String>,
        now: Moment,
    ) {
        let member = self.known.get_mut(&id.of).and_then(|known| known.get_mut(&id.name));
        if let Some(member) = member.filter(|member| member.epoch == epoch) {
            member.health.take(outcome, now);
        }
    }

    /// Those that are otherwise in `present`: before, and as they are there.
    pub(crate) fn changes<'a>(
        &'a self,
        present: &'a Self,
    ) -> Vec<(MemberId, Option<&'a MemberState>, Option<&'a MemberState>)> {
        let mut changes = Vec::new();
        for item in self.known.diff(&present.known) {
            let (DiffItem::Add(of, _)
            | DiffItem::Remove(of, _)
            | DiffItem::Update { new: (of, _), .. }) = item;
            let none = imbl::OrdMap::new();
            let (old, new) = (self.known.get(of), present.known.get(of));
            for item in old.unwrap_or(&none).diff(new.unwrap_or(&none)) {
                let (DiffItem::Add(name, _)
                | DiffItem::Remove(name, _)
                | DiffItem::Update { new: (name, _), .. }) = item;
                let id = MemberId { of: of.clone(), name: name.clone() };
                changes.push((id, old.and_then(|m| m.get(name)), new.and_then(|m| m.get(name))));
            }
        }
        changes
    }

    /// Drops the counters of members that are no more, once requests are neither sent to them nor
    /// left on them. Nothing waits for this: a later turn does as well.
    pub(crate) fn forget_gone(
        &mut self,
        activity: &Activity,
        is_served: impl Fn(&MemberId) -> bool,
    ) {
        if self.gone.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.gone) {
            let endpoint = EndpointId::from(id.clone());
            if is_served(&id) || activity.in_flight_on(&endpoint) > 0 {
                self.gone.insert(id);
            } else {
                activity.remove_endpoint(&endpoint);
            }
        }
    }
}

/// The members that a pool sends requests to.
fn by_name(pool: Option<&Pool>) -> BTreeMap<&MemberName, &Endpoint> {
    let endpoints = pool.into_iter().flat_map(Pool::endpoints);
    endpoints
        .filter_map(|endpoint| match &endpoint.id {
            EndpointId::Member(id) => Some((&id.name, endpoint)),
            EndpointId::Instance(_) => None,
        })
        .collect()
}
