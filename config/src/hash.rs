//! Hashes that mean the same in every process, version and machine: whose a key is must not change
//! with a restart.

/// The 64-bit hash of these texts, each ended by a byte that no text has.
pub(crate) fn stable_hash(texts: &[&[u8]]) -> u64 {
    let mut hash = twox_hash::XxHash64::with_seed(0);
    for text in texts {
        std::hash::Hasher::write(&mut hash, text);
        std::hash::Hasher::write(&mut hash, &[0xff]);
    }
    std::hash::Hasher::finish(&hash)
}

/// Many numbers of one seed, as if each were taken at random (SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    // No iterator: it has no end, and whoever takes one number wants no option.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end` without it; 0 if `end` is.
    #[inline]
    pub fn below(&mut self, end: usize) -> usize {
        below(self.next(), end)
    }

    /// From 0 to 1 without it.
    #[inline]
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Spreads hashes evenly from 0 to `end` without it; 0 if `end` is.
pub(crate) fn below(hash: u64, end: usize) -> usize {
    ((u128::from(hash) * end as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the published generator from the seed that its tests use.
    #[test]
    fn the_numbers_are_splitmix64() {
        let mut numbers = Numbers(1_234_567);
        let first = [(); 2].map(|()| numbers.next());
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
