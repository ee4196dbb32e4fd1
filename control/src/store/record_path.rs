//! Where a name stands in its zone, as a text by which the database keeps what is below a name
//! behind it.

use weir_config::{DnsName, ZoneName};

use super::StoreError;

/// Sorts before everything that stands in a label, where it would be escaped.
const END: char = ' ';
/// The character after it.
const AFTER_END: char = '!';

/// The labels in front of the zone's name, from the right, each with a space behind it.
pub(super) fn of(name: &DnsName, zone: &ZoneName) -> String {
    let own = name.labels().count().saturating_sub(zone.dns().labels().count());
    let mut path = String::new();
    for label in name.labels().take(own).collect::<Vec<_>>().into_iter().rev() {
        // A label of a name is a name.
        if let Ok(label) = DnsName::root().child(label) {
            path.push_str(&label.to_string());
            path.push(END);
        }
    }
    path
}

pub(super) fn name(path: &str, zone: &ZoneName) -> Result<DnsName, StoreError> {
    let mut text = String::with_capacity(path.len() + zone.len() + 1);
    for label in path.split_terminator(END).rev() {
        text.push_str(label);
        text.push('.');
    }
    text.push_str(zone);
    text.parse().map_err(StoreError::Corrupt)
}

/// The paths below this one are those behind it and before this.
pub(super) fn end(path: &str) -> String {
    match path.strip_suffix(END) {
        Some(start) => format!("{start}{AFTER_END}"),
        // Everything is below the zone's own name; no character in a path is as high.
        None => char::MAX.to_string(),
    }
}

/// The paths of the names above this one, up to the zone's own.
pub(super) fn above(path: &str) -> Vec<&str> {
    let ends = path.char_indices().filter(|(_, c)| *c == END).map(|(at, _)| at + 1);
    std::iter::once(0).chain(ends).filter(|end| *end < path.len()).map(|end| &path[..end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_name_stands_behind_it() {
        let zone: ZoneName = "example.com".parse().unwrap();
        let path = |name: &str| of(&name.parse().unwrap(), &zone);
        assert_eq!(path("example.com"), "");
        assert_eq!(path("a.b.example.com"), "b a ");
        assert_eq!(path(r"*.b\.c.d\032e.example.com"), r"d\032e b\.c * ");
        for text in ["example.com", "a.b.example.com", r"*.b\.c.d\032e.example.com"] {
            assert_eq!(name(&path(text), &zone).unwrap().to_string(), text);
        }
        assert_eq!(above(&path("a.b.c.example.com")), ["", "c ", "c b "]);
        assert_eq!(above(""), [""; 0]);

        let is_below = |name: &str, of: &str| {
            let (name, of) = (path(name), path(of));
            name > of && name < end(&of)
        };
        assert!(is_below("x.b.example.com", "b.example.com"));
        assert!(is_below("b.example.com", "example.com"));
        for other in ["b.example.com", "bb.example.com", "b-.example.com", "a.example.com"] {
            assert!(!is_below(other, "b.example.com"), "{other}");
        }
    }
}
