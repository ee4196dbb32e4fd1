//! A map from host names for many readers and a writer that changes a few of very many.

use std::{hash::BuildHasher, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};

use crate::Hostname;

type Part<T> = HashTable<(Hostname, T)>;

/// Parts of the map. A change copies the part that it is in and the list of parts, and shares the
/// others with the map that it was made from: with 100,000 names that is some 400 entries. A
/// look-up stays as quick as in one hash map; in a persistent one it is several times slower.
const PARTS: usize = 256;

/// Cheap to clone.
///
/// The hasher is quick and seeded. A stranger can ask for any name but put none in, and so cannot
/// make names collide.
#[derive(Clone, Debug)]
pub(crate) struct HostTable<T> {
    parts: Arc<[Arc<Part<T>>]>,
    hasher: RandomState,
    len: usize,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        let empty = Arc::new(Part::new());
        let parts = std::iter::repeat_n(empty, PARTS).collect();
        Self { parts, hasher: RandomState::default(), len: 0 }
    }
}

impl<T: Clone> HostTable<T> {
    pub(crate) fn get(&self, host: &str) -> Option<&T> {
        let hash = self.hasher.hash_one(host);
        let found = self.parts[part(hash)].find(hash, |(name, _)| **name == *host);
        found.map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, host: Hostname, value: T) {
        let hash = self.hasher.hash_one(&*host);
        let Self { parts, hasher, len } = self;
        let rehash = |(name, _): &(Hostname, T)| hasher.hash_one(&**name);
        match part_mut(parts, hash).entry(hash, |(name, _)| *name == host, rehash) {
            Entry::Occupied(mut former) => former.get_mut().1 = value,
            Entry::Vacant(place) => {
                place.insert((host, value));
                *len += 1;
            }
        }
    }

    pub(crate) fn remove(&mut self, host: &str) {
        let hash = self.hasher.hash_one(host);
        let part = part_mut(&mut self.parts, hash);
        if let Ok(former) = part.find_entry(hash, |(name, _)| **name == *host) {
            former.remove();
            self.len -= 1;
        }
    }
}

impl<T: Clone> HostTable<T> {
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.iter()).map(|(_, value)| value)
    }

    /// The values of names that `former` has no such value of. Costs the parts that have changed.
    pub(crate) fn changed<'a>(
        &'a self,
        former: &'a Self,
        is_same: impl Fn(&T, &T) -> bool,
    ) -> impl Iterator<Item = &'a T> {
        let parts = self.parts.iter().zip(&*former.parts);
        let changed = parts.filter(|(part, former)| !Arc::ptr_eq(part, former));
        let entries = changed.flat_map(|(part, _)| part.iter());
        entries
            .filter(move |(name, value)| former.get(name).is_none_or(|f| !is_same(f, value)))
            .map(|(_, value)| value)
    }
}

fn part(hash: u64) -> usize {
    // Bits from the middle: within a part, the low ones choose the place and the high ones tell
    // its neighbours apart. Were they the same in all of a part, each look-up would compare with
    // many names.
    (hash >> 32) as usize % PARTS
}

fn part_mut<T: Clone>(parts: &mut Arc<[Arc<Part<T>>]>, hash: u64) -> &mut Part<T> {
    Arc::make_mut(&mut Arc::make_mut(parts)[part(hash)])
}
