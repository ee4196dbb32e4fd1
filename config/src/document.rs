//! YAML texts as values that remember where each field stands.

use std::collections::HashMap;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::{Place, Problem, Problems, decode};

/// One YAML document: its value, and the place of every node by JSON Pointer.
#[derive(Clone, Debug)]
pub struct Document {
    pub value: Value,
    places: HashMap<String, Place>,
}

impl Document {
    /// Reads the document as a `T`, or tells every problem with its place.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        decode(self.value.clone()).map_err(|problems| self.locate(problems))
    }

    /// Adds to each problem the place of its field, or of the nearest enclosing one that exists.
    pub fn locate(&self, mut problems: Problems) -> Problems {
        for problem in &mut problems.0 {
            let mut pointer = problem.pointer.as_str();
            problem.place = loop {
                if let Some(place) = self.places.get(pointer) {
                    break Some(*place);
                }
                match pointer.rfind('/') {
                    Some(cut) => pointer = &pointer[..cut],
                    None => break None,
                }
            };
        }
        problems
    }
}

/// Splits a text into its YAML documents. A text with nothing but comments has none.
///
/// # Errors
/// The first syntax error, with its place: a text that does not parse has no other problems.
pub fn parse_documents(text: &str) -> Result<Vec<Document>, Problems> {
    let nodes = MarkedYaml::load_from_str(text).map_err(|error| {
        let marker = error.marker();
        let place = Place { line: marker.line(), column: marker.col() + 1 };
        let message = format!("this is not valid YAML: {}", error.info());
        Problems(vec![Problem { place: Some(place), ..Problem::new("", "syntax", message) }])
    })?;
    let mut documents = Vec::new();
    for node in nodes {
        let mut places = HashMap::new();
        let mut problems = Problems::default();
        let value = convert(&node, String::new(), &mut places, &mut problems);
        let document = Document { value, places };
        problems.or_value(()).map_err(|problems| document.locate(problems))?;
        if !document.value.is_null() {
            documents.push(document);
        }
    }
    Ok(documents)
}

fn convert(
    node: &MarkedYaml<'_>,
    pointer: String,
    places: &mut HashMap<String, Place>,
    problems: &mut Problems,
) -> Value {
    let start = node.span.start;
    places.insert(pointer.clone(), Place { line: start.line(), column: start.col() + 1 });
    match &node.data {
        YamlData::Value(scalar) => scalar_value(scalar),
        YamlData::Sequence(items) => items
            .iter()
            .enumerate()
            .map(|(i, item)| convert(item, format!("{pointer}/{i}"), places, problems))
            .collect(),
        YamlData::Mapping(entries) => {
            let mut object = Map::new();
            for (key, item) in entries {
                let key_text = match &key.data {
                    YamlData::Value(Scalar::String(text)) => text.to_string(),
                    YamlData::Value(scalar) => scalar_value(scalar).to_string(),
                    _ => {
                        let message = "a key must be a plain word";
                        problems.push(Problem::new(pointer.as_str(), "bad_key", message));
                        continue;
                    }
                };
                let child = format!("{pointer}/{}", escape(&key_text));
                let value = convert(item, child.clone(), places, problems);
                // A problem with a field is best shown at its key.
                let mark = key.span.start;
                places.insert(child, Place { line: mark.line(), column: mark.col() + 1 });
                object.insert(key_text, value);
            }
            Value::Object(object)
        }
        YamlData::Tagged(_, inner) => convert(inner, pointer, places, problems),
        YamlData::Representation(text, ..) => Value::String(text.to_string()),
        YamlData::Alias(_) | YamlData::BadValue => {
            problems.push(Problem::new(pointer, "bad_value", "this value cannot be understood"));
            Value::Null
        }
    }
}

fn scalar_value(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(b) => Value::Bool(*b),
        Scalar::Integer(i) => Value::Number((*i).into()),
        Scalar::FloatingPoint(f) => Number::from_f64(f.0).map_or(Value::Null, Value::Number),
        Scalar::String(text) => Value::String(text.to_string()),
    }
}

/// Escapes one reference token of a JSON Pointer (RFC 6901 section 3).
pub(crate) fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}
