//! Whose a key is.

use super::{Endpoint, maglev::Maglev, ring::Ring};
use crate::{EndpointId, HashAlgorithm, hash::stable_hash};

/// What one endpoint brings to a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where it is in the pool.
    pub(super) index: u16,
    /// What its places in the table come from.
    pub(super) seed: u64,
    pub(super) weight: u16,
}

#[derive(Clone)]
pub(super) enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

impl Table {
    /// A table over these endpoints; their order does not matter. Of more than 65,536 the rest own
    /// no key.
    pub(super) fn new(endpoints: &[Endpoint], algorithm: HashAlgorithm) -> Self {
        let mut endpoints: Vec<_> = (0..=u16::MAX).zip(endpoints).collect();
        endpoints.sort_by_key(|(_, endpoint)| &endpoint.id);
        let entry = |(index, endpoint): (u16, &Endpoint)| Entry {
            index,
            seed: seed(&endpoint.id),
            weight: endpoint.weight.max(1),
        };
        let entries: Vec<_> = endpoints.into_iter().map(entry).collect();
        match algorithm {
            HashAlgorithm::Ring => Self::Ring(Ring::new(&entries)),
            HashAlgorithm::Maglev => Self::Maglev(Maglev::new(&entries)),
        }
    }

    /// The places in the pool of those who take this key, its owner first. An endpoint comes up
    /// more than once.
    pub(super) fn takers(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let (owners, first) = match self {
            Self::Ring(ring) => (ring.owners(), ring.first(key)),
            Self::Maglev(maglev) => (maglev.owners(), maglev.first(key)),
        };
        owners[first..].iter().chain(&owners[..first]).map(|index| usize::from(*index))
    }
}

/// Neither its address nor its deployment: an endpoint that moves, and the instance that takes its
/// place in a new deployment, own the same keys.
fn seed(id: &EndpointId) -> u64 {
    match id {
        EndpointId::Instance(instance) => stable_hash(&[instance.ordinal.to_string().as_bytes()]),
        EndpointId::Member(member) => stable_hash(&[member.name.as_bytes()]),
    }
}
