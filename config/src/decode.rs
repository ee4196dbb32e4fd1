//! From a value to a type, telling every problem instead of only the first.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

use crate::{Problem, Problems, document::escape};

/// More problems than this in one object are not worth printing.
const MAX_PROBLEMS: usize = 100;

/// Reads `value` as a `T`.
///
/// # Errors
/// Every unknown field (with the likeliest right one), every value of the wrong type, and the
/// missing fields that are not the consequence of another problem.
pub fn decode<T: DeserializeOwned>(value: Value) -> Result<T, Problems> {
    let (decoded, problems) = decode_partly(value);
    match decoded {
        Some(decoded) => problems.or_value(decoded),
        None => Err(problems),
    }
}

/// Reads `value` as a `T` as far as that goes: what could not be read is left at its default, if it
/// has one.
///
/// Serde stops at the first problem; so the field that it names is cut out and the rest is read
/// again, until nothing more is found.
pub(crate) fn decode_partly<T: DeserializeOwned>(mut value: Value) -> (Option<T>, Problems) {
    let mut problems = Problems::default();
    if !value.is_object() {
        problems.push(Problem::new("", "invalid_value", "write a mapping: `field: value` lines"));
        return (None, problems);
    }
    let mut cut: Vec<String> = Vec::new();
    while problems.0.len() < MAX_PROBLEMS {
        let mut track = Track::new();
        let tracked = serde_path_to_error::Deserializer::new(value.clone(), &mut track);
        let error = match T::deserialize(tracked) {
            Ok(decoded) => return (Some(decoded), problems),
            Err(error) => error.to_string(),
        };
        let problem = problem(&pointer_of(&track.path()), error);
        let pointer = problem.pointer.clone();
        let is_missing = problem.code == "required";
        if !(is_missing && cut.contains(&pointer)) {
            problems.push(problem);
        }
        // What is missing cannot be cut out.
        if is_missing || !remove(&mut value, &pointer) {
            break;
        }
        cut.push(pointer);
    }
    (None, problems)
}

/// What serde's error at `pointer` means to whoever wrote the value.
fn problem(pointer: &str, error: String) -> Problem {
    if let Some(field) = quoted_after(&error, "unknown field ") {
        let own = format!("/{}", escape(field));
        let pointer = pointer.strip_suffix(&own).unwrap_or(pointer);
        Problem::new(format!("{pointer}{own}"), "unknown_field", unknown_field(field, &error))
    } else if let Some(field) = quoted_after(&error, "missing field ") {
        let message = format!("`{field}` is required");
        Problem::new(format!("{pointer}/{}", escape(field)), "required", message)
    } else {
        Problem::new(pointer, "invalid_value", in_plain_words(error))
    }
}

/// Serde names types as Rust does.
fn in_plain_words(error: String) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected usize", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a string", "expected text"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected a mapping"),
    ];
    let found = WORDS.iter().find(|(rust, _)| error.ends_with(rust));
    match (found, error.split_once("expected struct ")) {
        (Some((rust, plain)), _) => error.replace(rust, plain),
        (None, Some((before, _))) => format!("{before}expected a mapping"),
        (None, None) => error,
    }
}

fn pointer_of(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { variant } => pointer.push_str(&format!("/{}", escape(variant))),
            Segment::Unknown => {}
        }
    }
    pointer
}

fn unknown_field(field: &str, error: &str) -> String {
    let known: Vec<&str> = error
        .split_once("expected")
        .map(|(_, list)| list.split('`').skip(1).step_by(2).collect())
        .unwrap_or_default();
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(field, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min();
    match nearest {
        Some((_, candidate)) => format!("unknown field `{field}`; did you mean `{candidate}`?"),
        None => format!("unknown field `{field}`; known here: {}", known.join(", ")),
    }
}

fn quoted_after<'a>(error: &'a str, marker: &str) -> Option<&'a str> {
    error.strip_prefix(marker)?.strip_prefix('`')?.split('`').next()
}

fn remove(value: &mut Value, pointer: &str) -> bool {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return false };
    let last = last.replace("~1", "/").replace("~0", "~");
    match value.pointer_mut(parent) {
        Some(Value::Object(object)) => object.remove(&last).is_some(),
        // Cutting one element would shift the indices of those behind it.
        Some(Value::Array(_)) => remove(value, parent),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // Only the act of reading it is under test.
    struct Boat {
        name: String,
        #[serde(default)]
        length: u16,
        #[serde(default)]
        engine: Option<Engine>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Engine {
        power: u32,
    }

    fn check(value: Value, expected: &[(&str, &str)]) {
        let problems = match decode::<Boat>(value) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0,
        };
        let found: Vec<_> =
            problems.iter().map(|p| (p.pointer.as_str(), p.code.as_str())).collect();
        assert_eq!(found, expected, "{problems:?}");
    }

    #[test]
    fn every_problem_is_told_at_once() {
        check(json!({"name": "Ada", "length": 3}), &[]);
        check(
            json!({"nam": "Ada", "length": "long", "engine": {"power": 3, "fuel": 1}}),
            &[
                ("/engine/fuel", "unknown_field"),
                ("/length", "invalid_value"),
                ("/nam", "unknown_field"),
                ("/name", "required"),
            ],
        );
        // A required field of the wrong type is one problem, not two.
        check(json!({"name": 7}), &[("/name", "invalid_value")]);
    }

    #[test]
    fn a_misspelt_key_gets_the_likeliest_right_one() {
        let problems = decode::<Boat>(json!({"name": "Ada", "lenght": 3})).unwrap_err();
        assert_eq!(problems.0[0].message, "unknown field `lenght`; did you mean `length`?");
    }
}
