//! Secrets and identities.

use std::fmt::Write;

/// `bytes` random bytes of the operating system's generator, as hexadecimal digits.
pub(crate) fn hex(bytes: usize) -> String {
    (0..bytes).fold(String::new(), |mut text, _| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{:02x}", rand::random::<u8>());
        text
    })
}
