//! Servers that something else keeps running, as control has seen them.

use std::{collections::BTreeSet, net::SocketAddr};

use weir_config::{Activity, Endpoint, EndpointId, Member, MemberId, MemberOf, Moment, Pool};

use crate::health::Health;

/// Every member of every shard, and every upstream of every app. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    known: imbl::OrdMap<MemberId, MemberState>,
    /// Those that are no more, until no request is on them.
    gone: imbl::OrdSet<MemberId>,
}

#[derive(Clone, Debug)]
pub(crate) struct MemberState {
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    /// Grows with every change of the address, so that a late probe of the former one is known.
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
        let of = of.clone();
        members.iter().filter_map(move |member| {
            let id = MemberId { of: of.clone(), name: member.name.clone() };
            let state = self.known.get(&id)?;
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
        let names: BTreeSet<_> = members.iter().map(|member| &member.name).collect();
        let known = self.known.keys().filter(|id| id.of == *of);
        let gone: Vec<_> = known.filter(|id| !names.contains(&id.name)).cloned().collect();
        for id in gone {
            self.known.remove(&id);
            self.gone.insert(id);
        }
        for member in members {
            let id = MemberId { of: of.clone(), name: member.name.clone() };
            let former = self.known.get(&id);
            if former.is_some_and(|former| former.address == member.address) {
                continue;
            }
            let epoch = former.map_or(0, |former| former.epoch + 1);
            let health = match served.and_then(|pool| endpoint_of(pool, &id)) {
                Some(endpoint) if endpoint.address == member.address => {
                    Health::Ready { since: endpoint.ready_since }
                }
                _ => Health::Starting { since: now, error: None },
            };
            self.gone.remove(&id);
            self.known.insert(id, MemberState { address: member.address, health, epoch });
        }
    }

    pub(crate) fn probed(
        &mut self,
        id: &MemberId,
        epoch: u64,
        outcome: Result<(), String>,
        now: Moment,
    ) {
        match self.known.get_mut(id) {
            Some(member) if member.epoch == epoch => member.health.take(outcome, now),
            _ => {}
        }
    }

    /// Drops the counters of members that are no more, once requests are neither sent to them nor
    /// left on them. Nothing waits for this: it may as well be done in a later turn.
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

pub(crate) fn endpoint_of<'a>(pool: &'a Pool, member: &MemberId) -> Option<&'a Endpoint> {
    pool.endpoints()
        .iter()
        .find(|endpoint| matches!(&endpoint.id, EndpointId::Member(id) if id == member))
}
