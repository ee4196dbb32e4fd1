//! What must not be kept where many can read it.

use serde::Serialize;
use serde_json::Value;

/// In the place of what is hidden.
const HIDDEN: &str = "[redacted]";
/// Parts of the names of variables whose values are hidden.
const SECRET_WORDS: &[&str] =
    &["AUTH", "CREDENTIAL", "DSN", "KEY", "PASS", "PRIVATE", "PWD", "SECRET", "TOKEN", "URL"];
/// A longer spec is not kept: it would be a copy of the database in itself.
const LONGEST: usize = 16 << 10;

/// A spec without its secrets, as JSON: all values of `secrets`, those of `env` whose names look
/// like it, and each `secret` wherever it is.
pub(crate) fn redacted(spec: &impl Serialize) -> Option<String> {
    let mut spec = serde_json::to_value(spec).ok()?;
    let fields = spec.as_object_mut()?;
    for (field, is_hidden) in [("secrets", always as fn(&str) -> bool), ("env", is_secret)] {
        if let Some(values) = fields.get_mut(field) {
            hide(values, is_hidden);
        }
    }
    hide_secrets(&mut spec);
    let text = spec.to_string();
    match text.len() {
        ..=LONGEST => Some(text),
        bytes => Some(format!("{{\"omitted\":\"a spec of {bytes} bytes\"}}")),
    }
}

fn hide_secrets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                match value {
                    Value::String(_) if field == "secret" => *value = HIDDEN.into(),
                    value => hide_secrets(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_secrets),
        _ => {}
    }
}

fn hide(values: &mut Value, is_hidden: impl Fn(&str) -> bool) {
    match values {
        Value::Object(values) => {
            let hidden = values.iter_mut().filter(|(name, _)| is_hidden(name));
            hidden.for_each(|(_, value)| *value = HIDDEN.into());
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = HIDDEN.into()),
        _ => {}
    }
}

fn always(_: &str) -> bool {
    true
}

/// Rather too often than too seldom: `DATABASE_URL` holds a password more often than not.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_looks_secret_is_never_kept() {
        let spec = json!({"image": "a", "port": 80,
            "env": {"NAME": "shop", "api_key": "k1", "DATABASE_URL": "postgres://u:k2@db", "N": "3"},
            "secrets": {"ANYTHING": "k3"}});
        let kept: Value = serde_json::from_str(&redacted(&spec).unwrap()).unwrap();
        assert_eq!(
            kept,
            json!({"image": "a", "port": 80,
                "env": {"NAME": "shop", "api_key": HIDDEN, "DATABASE_URL": HIDDEN, "N": "3"},
                "secrets": {"ANYTHING": HIDDEN}})
        );
        let long = redacted(&json!({"command": ["x".repeat(LONGEST)]})).unwrap();
        assert!(long.len() < 100, "{long}");
    }
}
