//! What was written and not sent yet.

use std::{mem, ops::Deref, time::Duration};

use tokio::time::Instant;

/// Its memory is kept from one answer to the next. On a connection where nothing is written for a
/// while, it is given back: most connections are idle, and this would be most of what they cost.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    /// Whether anything was written since the last look.
    used: bool,
    /// When it is looked whether the memory is still of use.
    look: Option<Instant>,
    /// When it is to be sent though no more has come.
    due: Option<Instant>,
}

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);

/// How long the beginning of an answer waits for the rest.
const LINGER: Duration = Duration::from_millis(5);

impl Unsent {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.used = true;
        self.bytes.extend_from_slice(bytes);
    }

    /// So many of the first bytes are sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.bytes.drain(..count);
        if self.bytes.is_empty() {
            self.due = None;
        }
    }

    /// When it is to be sent, counted from the first call; `None` if there is nothing.
    pub(super) fn due(&mut self) -> Option<Instant> {
        let waits = !self.bytes.is_empty();
        waits.then(|| *self.due.get_or_insert_with(|| Instant::now() + LINGER))
    }

    /// When [`look`](Self::look) is to be called; `None` if there is no memory to give back.
    pub(super) fn look_at(&mut self) -> Option<Instant> {
        let is_kept = self.bytes.is_empty() && self.bytes.capacity() > 0;
        is_kept.then(|| *self.look.get_or_insert_with(|| Instant::now() + LOOK))
    }

    /// Gives the memory back unless it was used since the last look.
    pub(super) fn look(&mut self) {
        self.look = None;
        if !mem::take(&mut self.used) && self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

impl Deref for Unsent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_due_until_all_of_it_is_sent() {
        let mut unsent = Unsent::default();
        assert_eq!(unsent.due(), None);
        unsent.push(b"answer");
        let due = unsent.due();
        unsent.push(b" and more");
        unsent.sent(6);
        assert_eq!((due.is_some(), unsent.due()), (true, due));
        unsent.sent(9);
        assert_eq!(unsent.due(), None);
    }

    #[test]
    fn memory_is_kept_as_long_as_it_is_used_and_given_back_in_silence() {
        let mut unsent = Unsent::default();
        assert_eq!(unsent.look_at(), None);
        for _ in 0..3 {
            unsent.push(b"answer");
            assert_eq!(unsent.look_at(), None, "what is not sent is not given back");
            unsent.sent(6);
            let due = unsent.look_at();
            assert_eq!((due.is_some(), unsent.look_at()), (true, due));
            unsent.look();
        }
        assert!(unsent.look_at().is_some(), "it was used since the look before");
        unsent.look();
        assert_eq!((unsent.look_at(), unsent.bytes.capacity()), (None, 0));
    }
}
