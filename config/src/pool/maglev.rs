//! Google's Maglev (Eisenbud et al., NSDI 2016, section 3.4): a table in which each endpoint has
//! its share of the slots, as exactly as whole slots allow.
//!
//! There, an endpoint wishes for slots at equal distances. Two whose distances are related then
//! follow each other through the table, and when a third one goes, a third of all slots may move
//! between them. Here the wishes are in no order.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::table::Entry;
use crate::hash::{Numbers, below};

/// The fewer slots an endpoint has, the more slots move between others when one comes or
/// goes; when the table changes its size, nearly all move.
const SLOTS: [usize; 2] = [16_381, 65_537];
/// The most endpoints with the small table.
const FEW: usize = 100;

#[derive(Clone)]
pub(super) struct Maglev {
    owners: Box<[u16]>,
}

impl Maglev {
    /// Endpoints take turns, each as often as it weighs, and at its turn takes the dearest slot
    /// that is free. Everyone has its first turn before anyone has a second.
    pub(super) fn new(entries: &[Entry]) -> Self {
        let slots = if entries.len() <= FEW { SLOTS[0] } else { SLOTS[1] };
        let mut owners = vec![None; slots];
        let mut wishes: Vec<_> = entries.iter().map(|entry| Wishes(Numbers(entry.seed))).collect();
        let mut turns: BinaryHeap<_> = (0..entries.len()).map(|rank| Reverse((0, rank))).collect();
        let mut free = slots;
        while free > 0 {
            let Some(mut turn) = turns.peek_mut() else { break };
            let Reverse((at, rank)) = &mut *turn;
            let entry = &entries[*rank];
            wishes[*rank].take(&mut owners, entry.index);
            *at += (1_u64 << 32) / u64::from(entry.weight);
            free -= 1;
        }
        Self { owners: owners.into_iter().map(Option::unwrap_or_default).collect() }
    }

    pub(super) fn owners(&self) -> &[u16] {
        &self.owners
    }

    /// Where the owner of this key is among [`Self::owners`]. The slots after it are next to take
    /// the key: who has them has nothing to do with who has this one.
    pub(super) fn first(&self, key: u64) -> usize {
        below(key, self.owners.len())
    }
}

/// The slots that an endpoint would have, the dearest first. Each comes up sooner or later, some of
/// them more than once.
struct Wishes(Numbers);

impl Wishes {
    /// There must be a free slot.
    fn take(&mut self, owners: &mut [Option<u16>], index: u16) {
        loop {
            let wish = &mut owners[self.0.below(owners.len())];
            if wish.is_none() {
                *wish = Some(index);
                return;
            }
        }
    }
}
