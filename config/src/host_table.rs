//! A map from host names for many readers and a writer that changes a few of very many.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use foldhash::fast::RandomState;

use crate::Hostname;

type Part<T> = HashMap<Hostname, T, RandomState>;

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
        let hasher = RandomState::default();
        let empty = Arc::new(Part::with_hasher(hasher.clone()));
        Self { parts: std::iter::repeat_n(empty, PARTS).collect(), hasher, len: 0 }
    }
}

impl<T: Clone> HostTable<T> {
    pub(crate) fn get(&self, host: &str) -> Option<&T> {
        self.parts[self.part(host)].get(host)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, host: Hostname, value: T) {
        let former = self.part_mut(&host).insert(host, value);
        self.len += usize::from(former.is_none());
    }

    pub(crate) fn remove(&mut self, host: &str) {
        let former = self.part_mut(host).remove(host);
        self.len -= usize::from(former.is_some());
    }

    fn part(&self, host: &str) -> usize {
        // Bits from the middle: within a part, the low ones choose the place and the high ones tell
        // its neighbours apart. Were they the same in all of a part, each look-up would compare
        // with many names.
        (self.hasher.hash_one(host) >> 32) as usize % PARTS
    }

    fn part_mut(&mut self, host: &str) -> &mut Part<T> {
        let part = self.part(host);
        Arc::make_mut(&mut Arc::make_mut(&mut self.parts)[part])
    }
}
