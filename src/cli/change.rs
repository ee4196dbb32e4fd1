//! What applying a manifest would change.

use std::fmt;

use serde_json::Value;
use weir_config::{AppManifest, AppSpec};
use weir_control::api::wire::AppResource;

/// The difference between an app as it is and as it is written.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    app: String,
    kind: ChangeKind,
}

#[derive(Debug, PartialEq)]
pub(super) enum ChangeKind {
    Create {
        image: String,
    },
    /// From the revision seen, by these fields.
    Update {
        revision: u64,
        fields: Vec<String>,
    },
    None,
}

impl Change {
    pub(super) fn new(current: Option<&AppResource>, wanted: &AppManifest) -> Self {
        let app = wanted.name.clone();
        let kind = match current {
            None => ChangeKind::Create { image: wanted.spec.image.clone() },
            Some(current) => match differences(&current.spec, &wanted.spec) {
                fields if fields.is_empty() => ChangeKind::None,
                fields => ChangeKind::Update { revision: current.revision, fields },
            },
        };
        Self { app, kind }
    }

    pub(super) fn kind(&self) -> &ChangeKind {
        &self.kind
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let app = &self.app;
        match &self.kind {
            ChangeKind::Create { image } => write!(f, "+ App/{app}  create  image {image}"),
            ChangeKind::Update { fields, .. } => write!(f, "~ App/{app}  {}", fields.join(", ")),
            ChangeKind::None => write!(f, "= App/{app}  unchanged"),
        }
    }
}

/// The fields that differ, each as `name  before → after`. Defaults are filled in on both sides, so
/// that writing a default down is no change.
fn differences(before: &AppSpec, after: &AppSpec) -> Vec<String> {
    let mut found = Vec::new();
    // A spec is plain data: it can always be written as JSON.
    let json = |spec| serde_json::to_value(spec).unwrap_or(Value::Null);
    compare("", &json(before), &json(after), &mut found);
    found
}

fn compare(name: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    if before == after {
        return;
    }
    let keys = |value: &Value| value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
    if before.is_object() || after.is_object() {
        let mut names = keys(before).unwrap_or_default();
        names.extend(keys(after).unwrap_or_default());
        names.sort();
        names.dedup();
        for key in names {
            let full = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            let [before, after] =
                [before, after].map(|value| value.get(&key).unwrap_or(&Value::Null));
            compare(&full, before, after, found);
        }
        return;
    }
    found.push(match (name.starts_with("env."), before.is_null(), after.is_null()) {
        // Variables hold passwords, and plans end up in the logs of build servers.
        (true, true, _) => format!("{name} added"),
        (true, _, true) => format!("{name} removed"),
        (true, ..) => format!("{name} changed"),
        (false, ..) => format!("{name} {} → {}", shown(before), shown(after)),
    });
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: Value) -> AppSpec {
        serde_json::from_value(value).unwrap()
    }

    fn check(before: Value, after: Value, expected: &[&str]) {
        assert_eq!(differences(&spec(before), &spec(after)), expected);
    }

    #[test]
    fn fields_that_differ_are_named_with_both_values() {
        check(json!({"image": "a"}), json!({"image": "a", "port": 8080}), &[]);
        check(
            json!({"image": "a", "sleep": {"pause_after": "5m"}}),
            json!({"image": "b", "sleep": {"pause_after": "1m"}, "resources": {"cpus": 0.5}}),
            &["image a → b", "resources.cpus none → 0.5", "sleep.pause_after 5m → 1m"],
        );
        check(
            json!({"image": "a", "hostnames": ["a.example"]}),
            json!({"image": "a", "hostnames": ["a.example", "b.example"]}),
            &[r#"hostnames ["a.example"] → ["a.example","b.example"]"#],
        );
    }

    #[test]
    fn a_part_that_comes_or_goes_is_told_by_its_fields() {
        check(
            json!({"image": "a"}),
            json!({"image": "a", "sleep": {"stop_after": null}}),
            &[
                "sleep.min_awake none → 1m",
                "sleep.pause_after none → 5m",
                "sleep.queue none → 1000",
                "sleep.wake_timeout none → 30s",
            ],
        );
    }

    #[test]
    fn the_values_of_variables_stay_private() {
        check(
            json!({"image": "a", "env": {"OLD": "1", "KEY": "secret"}}),
            json!({"image": "a", "env": {"KEY": "hidden", "NEW": "2"}}),
            &["env.KEY changed", "env.NEW added", "env.OLD removed"],
        );
    }

    #[test]
    fn a_plan_line_says_what_will_be_done() {
        let fields = vec!["image a → b".to_owned(), "port 80 → 81".to_owned()];
        let line = |kind| Change { app: "shop".to_owned(), kind }.to_string();
        assert_eq!(
            line(ChangeKind::Create { image: "a".to_owned() }),
            "+ App/shop  create  image a"
        );
        assert_eq!(
            line(ChangeKind::Update { revision: 3, fields }),
            "~ App/shop  image a → b, port 80 → 81"
        );
        assert_eq!(line(ChangeKind::None), "= App/shop  unchanged");
    }
}
