//! A part of a list that can grow.

/// So many, after one. By the key, not by the place: what comes and goes between two pages makes
/// none be left out or told twice.
#[derive(Clone, Debug)]
pub(crate) struct Page<K> {
    pub(crate) after: Option<K>,
    /// `None` for all there are.
    pub(crate) limit: Option<u32>,
}

impl<K> Default for Page<K> {
    fn default() -> Self {
        Self { after: None, limit: None }
    }
}

impl<K> Page<K> {
    /// As SQL takes it.
    pub(super) fn limit(&self) -> i64 {
        self.limit.map_or(i64::MAX, i64::from)
    }

    /// What a next page comes after, if this one is full.
    pub(crate) fn next<T>(&self, items: &[T], key: impl Fn(&T) -> String) -> Option<String> {
        let is_full = self.limit.is_some_and(|limit| items.len() >= limit as usize);
        items.last().filter(|_| is_full).map(key)
    }
}
