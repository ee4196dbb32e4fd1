//! Lines out of chunks.

/// Puts together the lines that the network has cut anywhere.
#[derive(Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// The lines that this chunk completes, empty ones too.
    pub(super) fn split(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(chunk);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.rest.split_off(end + 1);
        let mut whole = std::mem::replace(&mut self.rest, rest);
        // The last line is complete, and nothing comes after it.
        whole.pop();
        whole.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_being_cut_anywhere() {
        let text = b"{\"a\":1}\n{\"b\":\"\xc3\xa9\"}\n\n{\"c\":3}\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let found: Vec<_> = text.chunks(size).flat_map(|chunk| lines.split(chunk)).collect();
            assert_eq!(found.join(&b'\n'), text[..text.len() - 1], "chunks of {size}");
        }
    }
}
