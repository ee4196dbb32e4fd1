//! Points on a ring: a key belongs to the first point at or after it.

use super::table::Entry;
use crate::hash::Numbers;

/// Points of an endpoint for each unit of its weight. A share deviates by the root of its points,
/// 6 % for a weight of 1: within what the bound on the load lets pass.
const POINTS: f64 = 256.0;
/// The most points of one endpoint, and of all, give or take one each. While there would be more,
/// a unit of weight makes do with half as many.
const MAX_POINTS: [f64; 2] = [1024.0, 262_144.0];

/// An endpoint's points come from itself alone, so no key moves between two others when it comes
/// or goes. Only when that changes how many points a unit of weight has do more keys move: when the
/// heaviest of a pool with weights above 4 comes or goes, or one of hundreds of heavy ones.
#[derive(Clone)]
pub(super) struct Ring {
    /// In ascending order, apart from the owners so that a search touches little memory.
    points: Box<[u32]>,
    owners: Box<[u16]>,
}

impl Ring {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let per_unit = per_unit(entries);
        let mut points = Vec::new();
        for (rank, entry) in entries.iter().enumerate() {
            let count = (f64::from(entry.weight) * per_unit).max(1.0) as usize;
            let mut numbers = Numbers(entry.seed);
            // Of two points at one place, the one of the lower rank is first.
            points.extend((0..count).map(|_| (numbers.next() >> 32 << 16) | rank as u64));
        }
        points.sort_unstable();
        Self {
            points: points.iter().map(|point| (point >> 16) as u32).collect(),
            owners: points.iter().map(|point| entries[*point as u16 as usize].index).collect(),
        }
    }

    pub(super) fn owners(&self) -> &[u16] {
        &self.owners
    }

    /// Where the owner of this key is among [`Self::owners`].
    pub(super) fn first(&self, key: u64) -> usize {
        let key = (key >> 32) as u32;
        let next = self.points.partition_point(|point| *point < key);
        if next < self.points.len() { next } else { 0 }
    }
}

fn per_unit(entries: &[Entry]) -> f64 {
    let weights = || entries.iter().map(|entry| f64::from(entry.weight));
    let (heaviest, all) = (weights().fold(0.0, f64::max), weights().sum::<f64>());
    let [most, most_of_all] = MAX_POINTS;
    let mut per_unit = POINTS;
    while per_unit * heaviest > most || per_unit * all > most_of_all {
        per_unit /= 2.0;
    }
    per_unit
}
