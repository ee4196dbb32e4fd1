//! A name on its way through a question, in a place of its own on the stack.

use std::fmt;

use weir_config::dns::{MAX_NAME, labels};

/// A lower-cased name in wire form.
#[derive(Clone, Copy)]
pub(crate) struct NameBuf {
    bytes: [u8; MAX_NAME],
    len: u8,
}

impl NameBuf {
    /// `wire` is a name, in any case.
    pub(crate) fn new(wire: &[u8]) -> Self {
        let mut name = Self { bytes: [0; MAX_NAME], len: 0 };
        name.push(wire);
        name
    }

    /// One more label, `*`, in front of a name; `None` if that would be too long.
    pub(crate) fn wildcard(above: &[u8]) -> Option<Self> {
        Self::join(b"\x01*", above)
    }

    /// Labels in front of a name; `None` if that would be too long.
    pub(crate) fn join(labels: &[u8], above: &[u8]) -> Option<Self> {
        if labels.len() + above.len() > MAX_NAME {
            return None;
        }
        let mut name = Self::new(labels);
        name.push(above);
        Some(name)
    }

    pub(crate) fn wire(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }

    fn push(&mut self, wire: &[u8]) {
        let start = usize::from(self.len);
        let end = (start + wire.len()).min(MAX_NAME);
        self.bytes[start..end].copy_from_slice(&wire[..end - start]);
        // Lengths of labels are below the letters.
        self.bytes[start..end].make_ascii_lowercase();
        self.len = end as u8;
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = labels(self.wire()).map(String::from_utf8_lossy);
        f.debug_list().entries(labels).finish()
    }
}
