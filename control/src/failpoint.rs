//! Moments at which a build for tests can be made to crash, to prove that none of them matters.
//!
//! `FAILPOINT=after-create:2` aborts the process when it passes that point for the second time.
//! Only a build with debug assertions has them; in a release there is nothing here.

/// Passes the point `when-what`, such as `before-commit`.
#[cfg(debug_assertions)]
pub(crate) fn pass(when: &str, what: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    /// The point that is not survived, and how often it still is.
    static FATAL: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let written = std::env::var("FAILPOINT").ok()?;
        let (point, count) = written.split_once(':')?;
        Some((point.to_owned(), AtomicU32::new(count.parse().ok()?)))
    });
    let Some((point, left)) = &*FATAL else { return };
    let is_meant = point.split_once('-').is_some_and(|meant| meant == (when, what));
    if is_meant && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn pass(_when: &str, _what: &str) {}
