//! From a value to a type, telling every problem instead of only the first.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment, Track};

use crate::{Problem, Problems, document::escape};

/// More problems than this in one object are not worth printing.
const MAX_PROBLEMS: usize = 100;

/// Reads `value` as a `T`.
///
/// Serde stops at the first problem; so the field that it names is cut out and the rest is read
/// again, until nothing more is found.
///
/// # Errors
/// Every unknown field (with the likeliest right one), every value of the wrong type, and the
/// missing fields that are not the consequence of another problem.
pub fn decode<T: DeserializeOwned>(mut value: Value) -> Result<T, Problems> {
    let mut problems = Problems::default();
    let mut cut: Vec<String> = Vec::new();
    while problems.0.len() < MAX_PROBLEMS {
        let mut track = Track::new();
        let tracked = serde_path_to_error::Deserializer::new(value.clone(), &mut track);
        let error = match T::deserialize(tracked) {
            Ok(decoded) => return problems.or_value(decoded),
            Err(error) => error.to_string(),
        };
        let mut pointer = pointer_of(&track.path());
        let (code, message) = if let Some(field) = quoted_after(&error, "unknown field ") {
            if !pointer.ends_with(&format!("/{}", escape(field))) {
                pointer = format!("{pointer}/{}", escape(field));
            }
            ("unknown_field", unknown_field(field, &error))
        } else if let Some(field) = quoted_after(&error, "missing field ") {
            let missing = format!("{pointer}/{}", escape(field));
            if !cut.contains(&missing) {
                let message = format!("`{field}` is required");
                problems.push(Problem::new(missing.clone(), "required", message));
            }
            // Nothing to cut: what is missing hides no other problem that could still be found.
            return Err(problems);
        } else {
            ("invalid_value", error)
        };
        problems.push(Problem::new(pointer.clone(), code, message));
        if !remove(&mut value, &pointer) {
            break;
        }
        cut.push(pointer);
    }
    Err(problems)
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
