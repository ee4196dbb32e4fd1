//! How the clients are shared, in ten-thousandths.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// All clients.
pub const WHOLE: u16 = 10_000;

/// Each target's part of the clients, in ten-thousandths: together [`WHOLE`], or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shares(Arc<[u16]>);

/// What is to be served until further notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steering {
    /// Grows with every change.
    pub epoch: u64,
    pub shares: Shares,
    /// For how long resolvers may keep an answer.
    pub ttl: Duration,
}

impl Shares {
    /// By these weights, which are nobody's share if all of them are zero. What the rounding leaves
    /// is the first one's that has a weight.
    pub fn by_weight(weights: &[u64]) -> Self {
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        if total == 0 {
            return Self(vec![0; weights.len()].into());
        }
        let share = |weight: &u64| (u128::from(*weight) * u128::from(WHOLE) / total) as u16;
        let mut shares: Vec<_> = weights.iter().map(share).collect();
        let rest = WHOLE - shares.iter().sum::<u16>();
        if let Some(first) = weights.iter().position(|weight| *weight > 0) {
            shares[first] += rest;
        }
        Self(shares.into())
    }

    /// Everything to this one of so many targets.
    pub fn all_to(target: usize, targets: usize) -> Self {
        Self((0..targets).map(|i| if i == target { WHOLE } else { 0 }).collect())
    }

    /// In the order of the targets.
    pub fn as_slice(&self) -> &[u16] {
        &self.0
    }

    /// That of one target; nothing if there is no such.
    pub fn of(&self, target: usize) -> u16 {
        self.0.get(target).copied().unwrap_or_default()
    }

    pub fn is_nobody(&self) -> bool {
        self.0.iter().all(|share| *share == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_or_nothing() {
        for (weights, shares) in [
            (&[1, 0][..], &[10_000, 0][..]),
            (&[5, 95], &[500, 9500]),
            (&[0, 1, 1, 1], &[0, 3334, 3333, 3333]),
            (&[0, 0], &[0, 0]),
            (&[u64::MAX, u64::MAX], &[5000, 5000]),
        ] {
            assert_eq!(Shares::by_weight(weights).as_slice(), shares);
        }
        assert_eq!(Shares::all_to(1, 3).as_slice(), [0, WHOLE, 0]);
        assert!(Shares::by_weight(&[0, 0]).is_nobody());
    }
}
