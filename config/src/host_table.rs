//! A map from host names to routes for many readers and a writer that changes a few of very many.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use foldhash::fast::RandomState;

use crate::{AppRoute, Hostname};

type Shard = HashMap<Hostname, Arc<AppRoute>, RandomState>;

/// Parts of the map. A change copies the part that it is in and the list of parts, and shares the
/// others with the map that it was made from: with 100,000 names that is some 400 entries. A
/// look-up stays as quick as in one hash map; in a persistent one it is several times slower.
const SHARDS: usize = 256;

/// Cheap to clone.
///
/// The hasher is quick and seeded. A stranger can ask for any name but put none in, and so cannot
/// make names collide.
#[derive(Clone, Debug)]
pub(crate) struct HostTable {
    shards: Arc<[Arc<Shard>]>,
    hasher: RandomState,
    len: usize,
}

impl Default for HostTable {
    fn default() -> Self {
        let hasher = RandomState::default();
        let empty = Arc::new(Shard::with_hasher(hasher.clone()));
        Self { shards: std::iter::repeat_n(empty, SHARDS).collect(), hasher, len: 0 }
    }
}

impl HostTable {
    pub(crate) fn get(&self, host: &str) -> Option<&Arc<AppRoute>> {
        self.shards[self.shard(host)].get(host)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, host: Hostname, route: Arc<AppRoute>) {
        let former = self.shard_mut(&host).insert(host, route);
        self.len += usize::from(former.is_none());
    }

    pub(crate) fn remove(&mut self, host: &str) {
        let former = self.shard_mut(host).remove(host);
        self.len -= usize::from(former.is_some());
    }

    fn shard(&self, host: &str) -> usize {
        // Bits from the middle: within a part, the low ones choose the place and the high ones tell
        // its neighbours apart. Were they the same in all of a part, each look-up would compare
        // with many names.
        (self.hasher.hash_one(host) >> 32) as usize % SHARDS
    }

    fn shard_mut(&mut self, host: &str) -> &mut Shard {
        let shard = self.shard(host);
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard])
    }
}
