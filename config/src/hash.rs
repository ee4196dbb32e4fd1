//! A hash that means the same in every process, version and machine: whose a key is must not
//! change with a restart.

/// The 64-bit hash of these texts, each ended by a byte that no text has.
pub(crate) fn stable_hash(texts: &[&str]) -> u64 {
    let mut hash = twox_hash::XxHash64::with_seed(0);
    for text in texts {
        std::hash::Hasher::write(&mut hash, text.as_bytes());
        std::hash::Hasher::write(&mut hash, &[0xff]);
    }
    std::hash::Hasher::finish(&hash)
}
