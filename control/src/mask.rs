//! Keeping secrets out of what apps write, wherever Weir passes that on.

use aho_corasick::AhoCorasick;

/// Hides the values of one app's secrets in lines of text.
#[derive(Debug, Default)]
pub(crate) enum Mask {
    #[default]
    Nothing,
    Values(Box<AhoCorasick>),
    /// It is not known what has to be hidden.
    Everything,
}

/// What is shown instead.
const HIDDEN: &str = "***";
/// A shorter value would be found all over the place, and hidden by that be told.
const SHORTEST: usize = 6;

impl Mask {
    /// A value of several lines is found in each of them.
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = values.into_iter().flat_map(str::lines).map(str::trim);
        let mut patterns: Vec<_> = lines.filter(|l| l.chars().count() >= SHORTEST).collect();
        patterns.sort_unstable();
        patterns.dedup();
        if patterns.is_empty() {
            return Self::Nothing;
        }
        AhoCorasick::new(patterns).map_or(Self::Everything, |found| Self::Values(Box::new(found)))
    }

    /// The line as it may be shown.
    pub(crate) fn apply(&self, line: String) -> String {
        match self {
            Self::Nothing => line,
            Self::Values(values) if !values.is_match(&line) => line,
            Self::Values(values) => hide(values, &line),
            Self::Everything => HIDDEN.to_owned(),
        }
    }
}

/// Values may overlap, and then all of what any of them covers is hidden.
fn hide(values: &AhoCorasick, line: &str) -> String {
    let mut found: Vec<_> = values.find_overlapping_iter(line).map(|f| f.range()).collect();
    found.sort_unstable_by_key(|range| range.start);
    let (mut shown, mut hidden_to) = (String::with_capacity(line.len()), 0);
    for range in found {
        // Two that touch are one: where one ends is nobody's business.
        if range.start > hidden_to || hidden_to == 0 {
            shown.push_str(&line[hidden_to..range.start]);
            shown.push_str(HIDDEN);
        }
        hidden_to = hidden_to.max(range.end);
    }
    shown.push_str(&line[hidden_to..]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(values: &[&str], line: &str) -> String {
        Mask::new(values.iter().copied()).apply(line.to_owned())
    }

    #[test]
    fn values_are_hidden_wherever_they_are_in_a_line() {
        for (values, line, shown) in [
            (&["hunter2"][..], "login with hunter2: ok, hunter2!", "login with ***: ok, ***!"),
            (&["hunter2"], "hunter2", "***"),
            (&["hunter2"], "hunter 2", "hunter 2"),
            (&["hunter2"], "hunter2hunter2", "***"),
            (&["hunter2"], "äöü hunter2 ß", "äöü *** ß"),
            (&["short"], "a short one stays", "a short one stays"),
            (&["sécret"], "un sécret", "un ***"),
            (&["abcdef", "defghi"], "xabcdefghix", "x***x"),
            (&["abcdef", "abcdefgh"], "abcdefghi", "***i"),
            (&["-- begin --\n  line one\nx\n"], "a line one, -- begin --", "a ***, ***"),
            (&[], "nothing to hide", "nothing to hide"),
            (&["hunter2"], "", ""),
        ] {
            assert_eq!(masked(values, line), shown, "{values:?} in {line:?}");
        }
    }

    #[test]
    fn what_may_hold_unknown_secrets_is_not_shown() {
        assert_eq!(Mask::Everything.apply("hunter2".to_owned()), "***");
    }
}
