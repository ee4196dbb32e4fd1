//! What applying a manifest would change.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use weir_config::{
    AppManifest, AppSpec, FailoverManifest, FailoverSpec, HostManifest, IssuerManifest,
    NotifierManifest, ProviderManifest, ShardManifest, ZoneManifest, ZoneSpec,
};
use weir_control::api::wire::{
    AppResource, FailoverResource, HostResource, IssuerResource, NotifierResource,
    ProviderResource, Resource, ShardResource, ZoneResource,
};

/// The difference between an object as it is and as it is written.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    /// As `App/shop`.
    object: String,
    kind: ChangeKind,
}

#[derive(Debug, PartialEq)]
pub(super) enum ChangeKind {
    Create {
        /// What it is of, in a few words.
        summary: String,
    },
    /// From the revision seen, by these fields.
    Update {
        revision: u64,
        fields: Vec<String>,
    },
    None,
}

impl Change {
    pub(super) fn of_app(current: Option<&AppResource>, wanted: &AppManifest) -> Self {
        let current = current.map(|current| (current.revision, &current.spec));
        let kind = ChangeKind::new(current, &wanted.spec, || source(&wanted.spec));
        Self { object: format!("App/{}", wanted.name), kind }
    }

    pub(super) fn of_shard(current: Option<&ShardResource>, wanted: &ShardManifest) -> Self {
        let current = current.map(|current| (current.revision, &current.spec));
        let summary = || match (wanted.spec.members.len(), wanted.spec.hosts.is_empty()) {
            (0, false) => "a choice of hosts".to_owned(),
            (members, _) => counted(members, "member"),
        };
        let kind = ChangeKind::new(current, &wanted.spec, summary);
        Self { object: format!("Shard/{}", wanted.name), kind }
    }

    pub(super) fn of_host(current: Option<&HostResource>, wanted: &HostManifest) -> Self {
        let current = current.map(|current| (current.revision, &current.spec));
        let summary = || match &wanted.spec.engine {
            Some(engine) => format!("engine {engine}"),
            None => "this machine".to_owned(),
        };
        let kind = ChangeKind::new(current, &wanted.spec, summary);
        Self { object: format!("Host/{}", wanted.name), kind }
    }

    pub(super) fn of_zone(current: Option<&ZoneResource>, wanted: &ZoneManifest) -> Self {
        let (shown, has_secrets) = without_secrets(&wanted.spec);
        let kind = match current {
            None => ChangeKind::Create {
                summary: match shown.addresses.as_slice() {
                    [] => counted(shown.nameservers.len(), "nameserver"),
                    addresses => addresses.join(", "),
                },
            },
            Some(current) => {
                let mut fields = differences(&current.spec, &shown);
                // Whether they are others, only the server could tell.
                fields.extend(has_secrets.then(|| "keys of secondaries written anew".to_owned()));
                ChangeKind::of(current.revision, fields)
            }
        };
        Self { object: format!("Zone/{}", wanted.name), kind }
    }

    pub(super) fn of_issuer(
        current: Option<&IssuerResource>,
        wanted: &IssuerManifest,
        hidden: &[String],
    ) -> Self {
        let shown = wanted.spec.shown();
        let summary = format!("orders from {}", shown.directory);
        Self::of_sealed(format!("Issuer/{}", wanted.name), current, &shown, hidden, summary)
    }

    pub(super) fn of_failover(
        current: Option<&FailoverResource>,
        wanted: &FailoverManifest,
    ) -> Self {
        let current = current.map(|current| (current.revision, &current.spec));
        let targets = |spec: &FailoverSpec| {
            let names: Vec<_> = spec.targets.iter().map(|target| &*target.name).collect();
            names.join(", ")
        };
        let kind = ChangeKind::new(current, &wanted.spec, || targets(&wanted.spec));
        Self { object: format!("FailoverPolicy/{}", wanted.name), kind }
    }

    /// `is_other` says whether it changes what is not shown.
    pub(super) fn of_provider(
        current: Option<&ProviderResource>,
        wanted: &ProviderManifest,
        is_other: bool,
    ) -> Self {
        let shown = wanted.spec.shown();
        let kind = match current {
            None => ChangeKind::Create { summary: super::provider::place(&shown) },
            Some(current) => {
                let mut fields = differences(&current.spec, &shown);
                fields.extend(is_other.then(|| "secret changed".to_owned()));
                ChangeKind::of(current.revision, fields)
            }
        };
        Self { object: format!("Provider/{}", wanted.name), kind }
    }

    /// `hidden` are the fields that it changes of what is not shown.
    pub(super) fn of_notifier(
        current: Option<&NotifierResource>,
        wanted: &NotifierManifest,
        hidden: &[String],
    ) -> Self {
        let shown = wanted.spec.shown();
        let summary = format!("tells {}", shown.url);
        Self::of_sealed(format!("Notifier/{}", wanted.name), current, &shown, hidden, summary)
    }

    /// Of an object that is not shown whole; `hidden` are the fields that it changes of the rest.
    fn of_sealed<Spec: Serialize, Status>(
        object: String,
        current: Option<&Resource<Spec, Status>>,
        shown: &Spec,
        hidden: &[String],
        summary: String,
    ) -> Self {
        let kind = match current {
            None => ChangeKind::Create { summary },
            Some(current) => {
                let mut fields = differences(&current.spec, shown);
                for field in hidden {
                    if !fields.iter().any(|told| told.starts_with(field)) {
                        fields.push(format!("{field} changed"));
                    }
                }
                ChangeKind::of(current.revision, fields)
            }
        };
        Self { object, kind }
    }

    pub(super) fn kind(&self) -> &ChangeKind {
        &self.kind
    }
}

/// As the server shows it, and whether there were secrets in it.
fn without_secrets(spec: &ZoneSpec) -> (ZoneSpec, bool) {
    let (mut spec, mut had_any) = (spec.clone(), false);
    for key in spec.secondaries.iter_mut().filter_map(|secondary| secondary.key.as_mut()) {
        had_any |= key.secret.take().is_some();
    }
    (spec, had_any)
}

impl ChangeKind {
    /// From a revision with its spec, if there is one, to a wanted spec.
    fn new<S: Serialize>(
        current: Option<(u64, &S)>,
        wanted: &S,
        summary: impl FnOnce() -> String,
    ) -> Self {
        let Some((revision, spec)) = current else { return Self::Create { summary: summary() } };
        Self::of(revision, differences(spec, wanted))
    }

    fn of(revision: u64, fields: Vec<String>) -> Self {
        if fields.is_empty() { Self::None } else { Self::Update { revision, fields } }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = &self.object;
        match &self.kind {
            ChangeKind::Create { summary } => write!(f, "+ {object}  create  {summary}"),
            ChangeKind::Update { fields, .. } => write!(f, "~ {object}  {}", fields.join(", ")),
            ChangeKind::None => write!(f, "= {object}  unchanged"),
        }
    }
}

/// What answers an app's requests, in a few words.
pub(super) fn source(spec: &AppSpec) -> String {
    if let Some(policy) = &spec.failover {
        return format!("failover {policy}");
    }
    match (&spec.image, spec.upstreams.len(), spec.shards.as_slice()) {
        (Some(image), ..) => format!("image {image}"),
        (None, 0, [shard]) => format!("shard {shard}"),
        (None, 0, shards) => format!("shards {}", shards.join(", ")),
        (None, count, _) => counted(count, "upstream"),
    }
}

/// `1 app`, `2 apps`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

/// The fields that differ, each as `name  before → after`. Defaults are filled in on both sides, so
/// that writing a default down is no change.
pub(super) fn differences<S: Serialize>(before: &S, after: &S) -> Vec<String> {
    let mut found = Vec::new();
    // A spec is plain data: it can always be written as JSON.
    let json = |spec: &S| serde_json::to_value(spec).unwrap_or(Value::Null);
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
    fn of_what_is_not_shown_it_is_said_that_it_changes_and_never_to_what() {
        let spec = json!({"url": "https://example.com/hook?key=new", "secret": "whsec_new"});
        let wanted = json!({"kind": "Notifier", "name": "ops", "spec": spec});
        let wanted: NotifierManifest = serde_json::from_value(wanted).unwrap();
        let line = |url: &str, hidden: &[&str]| {
            let current = json!({
                "kind": "Notifier", "name": "ops", "generation": 1, "revision": 7,
                "created_at": "", "updated_at": "", "spec": {"url": url},
                "status": {"has_secret": true, "queued": 0},
            });
            let current: NotifierResource = serde_json::from_value(current).unwrap();
            let hidden: Vec<_> = hidden.iter().map(ToString::to_string).collect();
            Change::of_notifier(Some(&current), &wanted, &hidden).to_string()
        };
        let same = "https://example.com/hook?…";
        assert_eq!(line(same, &[]), "= Notifier/ops  unchanged");
        assert_eq!(line(same, &["url", "secret"]), "~ Notifier/ops  url changed, secret changed");
        assert_eq!(
            line("https://example.com/", &["url"]),
            format!("~ Notifier/ops  url https://example.com/ → {same}")
        );
        assert_eq!(
            Change::of_notifier(None, &wanted, &[]).to_string(),
            format!("+ Notifier/ops  create  tells {same}")
        );
    }

    #[test]
    fn a_plan_line_says_what_will_be_done() {
        let fields = vec!["image a → b".to_owned(), "port 80 → 81".to_owned()];
        let line = |kind| Change { object: "App/shop".to_owned(), kind }.to_string();
        assert_eq!(
            line(ChangeKind::Create { summary: "image a".to_owned() }),
            "+ App/shop  create  image a"
        );
        assert_eq!(
            line(ChangeKind::Update { revision: 3, fields }),
            "~ App/shop  image a → b, port 80 → 81"
        );
        assert_eq!(line(ChangeKind::None), "= App/shop  unchanged");
    }
}
