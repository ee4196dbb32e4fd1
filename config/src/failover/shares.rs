//! How the clients are shared, in ten-thousandths.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::MAX_TARGETS;

/// All clients.
pub const WHOLE: u16 = 10_000;

/// Each target's part of the clients, in ten-thousandths: together [`WHOLE`], or nothing at all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Vec<u16>", try_from = "Vec<u16>")]
pub struct Shares {
    parts: [u16; MAX_TARGETS],
    targets: u8,
}

/// What is to be served until further notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steering {
    /// Grows with every change.
    pub epoch: u64,
    pub shares: Shares,
    /// For how long resolvers may keep an answer.
    pub ttl: Duration,
}

impl Shares {
    /// By these weights, of which there are at most [`MAX_TARGETS`] and which are nobody's share if
    /// all of them are zero. What the rounding leaves is the first one's that has a weight.
    pub fn by_weight(weights: &[u64]) -> Self {
        let weights = &weights[..weights.len().min(MAX_TARGETS)];
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        let mut shares = Self { parts: [0; MAX_TARGETS], targets: weights.len() as u8 };
        let Some(first) = weights.iter().position(|weight| *weight > 0) else { return shares };
        for (part, weight) in shares.parts.iter_mut().zip(weights) {
            *part = (u128::from(*weight) * u128::from(WHOLE) / total) as u16;
        }
        shares.parts[first] += WHOLE - shares.parts.iter().sum::<u16>();
        shares
    }

    /// Everything to this one of so many targets.
    pub fn all_to(target: usize, targets: usize) -> Self {
        let mut weights = [0; MAX_TARGETS];
        if let Some(weight) = weights.get_mut(target) {
            *weight = 1;
        }
        Self::by_weight(&weights[..targets.min(MAX_TARGETS)])
    }

    /// In the order of the targets.
    pub fn as_slice(&self) -> &[u16] {
        &self.parts[..usize::from(self.targets)]
    }

    /// That of one target; nothing if there is no such.
    pub fn of(&self, target: usize) -> u16 {
        self.as_slice().get(target).copied().unwrap_or_default()
    }

    pub fn is_nobody(&self) -> bool {
        self.parts.iter().all(|part| *part == 0)
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl From<Shares> for Vec<u16> {
    fn from(shares: Shares) -> Self {
        shares.as_slice().to_vec()
    }
}

impl TryFrom<Vec<u16>> for Shares {
    type Error = String;

    fn try_from(parts: Vec<u16>) -> Result<Self, String> {
        let weights: Vec<_> = parts.iter().copied().map(u64::from).collect();
        let shares = Self::by_weight(&weights);
        let are_whole = shares.as_slice() == parts;
        are_whole.then_some(shares).ok_or_else(|| format!("{parts:?} are no shares of {WHOLE}"))
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

    #[test]
    fn what_is_read_is_what_was_written_and_nothing_else() {
        let shares = Shares::by_weight(&[5, 95]);
        let text = serde_json::to_string(&shares).unwrap();
        assert_eq!(text, "[500,9500]");
        assert_eq!(serde_json::from_str::<Shares>(&text).unwrap(), shares);
        assert!(serde_json::from_str::<Shares>("[500,9000]").is_err());
    }
}
