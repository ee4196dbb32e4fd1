//! Incidents, and the messages about them, on a real SQLite file.

use weir_config::Severity;

use super::{
    Cause, IncidentAction, IncidentQuery, IncidentRecord, Notifier, Precondition, Record,
    SealedNotifier, Store, Verb,
};
use crate::{
    incidents::{Rule, Trouble},
    seal::Keyring,
};

async fn store() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let base = "test.example".parse().unwrap();
    (Store::open(&dir.path().join("weir.db"), &base).await.unwrap(), dir)
}

fn trouble(app: &str, severity: Severity) -> Trouble {
    Trouble {
        rule: Rule::AppUnhealthy,
        subject: format!("App/{app}"),
        severity,
        title: format!("nothing serves {app}"),
        detail: "because".to_owned(),
    }
}

async fn all(store: &Store) -> Vec<IncidentRecord> {
    store.incidents(&IncidentQuery { limit: 1000, ..IncidentQuery::default() }).await.unwrap()
}

async fn actions(store: &Store, id: &str) -> Vec<String> {
    let (_, events) = store.incident(id).await.unwrap().unwrap();
    let numbers: Vec<_> = events.iter().map(|event| event.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    events.into_iter().map(|event| event.action).collect()
}

#[tokio::test]
async fn there_is_one_open_incident_of_a_kind_and_it_comes_back_as_the_same_one() {
    let (store, _dir) = store().await;
    let mut shop = trouble("shop", Severity::Warning);
    let key = (shop.rule, shop.subject.clone());
    for _ in 0..2 {
        store.open_incident(&shop).await.unwrap();
    }
    store.open_incident(&trouble("blog", Severity::Warning)).await.unwrap();
    assert_eq!(all(&store).await.len(), 2);
    shop.severity = Severity::Critical;
    store.update_incident(&shop).await.unwrap();
    store.update_incident(&shop).await.unwrap();
    store.resolve_gone((key.0, &key.1)).await.unwrap();
    store.resolve_gone((key.0, &key.1)).await.unwrap();
    assert_eq!(store.open_incidents().await.unwrap().len(), 1);
    store.open_incident(&shop).await.unwrap();
    let query = IncidentQuery {
        is_open: Some(true),
        subject: Some(key.1.clone()),
        limit: 10,
        ..IncidentQuery::default()
    };
    let found = store.incidents(&query).await.unwrap();
    assert_eq!((found.len(), found[0].occurrences, found[0].severity), (1, 2, Severity::Critical));
    assert_eq!(actions(&store, &found[0].id).await, ["opened", "changed", "resolved", "reopened"]);
}

#[tokio::test]
async fn an_operator_acts_once_and_pages_tell_each_incident_once() {
    let (store, _dir) = store().await;
    for i in 0..25 {
        store.open_incident(&trouble(&format!("app{i}"), Severity::Warning)).await.unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let query = IncidentQuery { after, limit: 10, ..IncidentQuery::default() };
        let page = store.incidents(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.opened_at, last.id.clone()));
        seen.extend(page.into_iter().map(|incident| incident.id));
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((count, seen.len()), (25, 25));

    let id = &seen[0];
    let note = IncidentAction::Note("hm".to_owned());
    for action in [
        IncidentAction::Acknowledge,
        IncidentAction::Acknowledge,
        note,
        IncidentAction::Resolve,
        IncidentAction::Resolve,
    ] {
        assert!(store.act_on_incident(id, &action, "me").await.unwrap().is_some());
    }
    assert_eq!(actions(&store, id).await, ["opened", "acknowledged", "note", "resolved"]);
    let none = store.act_on_incident("inc-none", &IncidentAction::Resolve, "me").await.unwrap();
    assert_eq!(none, None);
}

/// Writes a notifier with more fields than its URL.
async fn put_notifier(store: &Store, name: &str, fields: &str) {
    let text = format!("{{\"url\": \"http://127.0.0.1:1/\"{fields}}}");
    let (name, spec) = (name.parse().unwrap(), serde_json::from_str(&text).unwrap());
    let notifier = Notifier::new(&name, &spec, &Keyring::new()).unwrap();
    let cause = Cause { actor: "test", verb: Verb::Put, key: None };
    store.put(&spec.shown(), &notifier, Precondition::None, cause).await.unwrap();
}

async fn kept(store: &Store, name: &str) -> SealedNotifier {
    let record: Record<Notifier> = store.read(&name.parse().unwrap()).await.unwrap();
    record.extra
}

#[tokio::test]
async fn each_notifier_is_told_what_it_wants() {
    let (store, _dir) = store().await;
    put_notifier(&store, "all", "").await;
    put_notifier(&store, "grave", ", \"min_severity\": \"critical\"").await;
    put_notifier(&store, "opened", ", \"events\": [\"incident.opened\"]").await;

    let shop = trouble("shop", Severity::Warning);
    store.open_incident(&shop).await.unwrap();
    store.resolve_gone((shop.rule, &shop.subject)).await.unwrap();
    let counts = |name| {
        let store = store.clone();
        async move { store.due_messages(name, 100).await.unwrap().len() }
    };
    assert_eq!((counts("all").await, counts("grave").await, counts("opened").await), (2, 0, 1));

    let message = store.due_messages("all", 1).await.unwrap().remove(0);
    store.postpone_message(&message, i64::MAX, "no").await.unwrap();
    assert_eq!(counts("all").await, 0, "nothing is sent to who does not answer");
    assert_eq!(kept(&store, "all").await.last_error.as_deref(), Some("no"));
    assert_eq!(store.notifiers_with_due().await.unwrap(), ["opened"]);
    let cause = Cause { actor: "test", verb: Verb::Delete, key: None };
    let opened = "opened".parse().unwrap();
    store.delete::<Notifier>(&opened, Precondition::None, cause).await.unwrap();
    assert!(store.notifiers_with_due().await.unwrap().is_empty(), "nobody is left to be told");
}

#[tokio::test]
async fn what_nobody_takes_is_bounded() {
    let (store, _dir) = store().await;
    put_notifier(&store, "dead", "").await;
    for i in 0..1010 {
        store.open_incident(&trouble(&format!("app{i}"), Severity::Warning)).await.unwrap();
    }
    assert_eq!(kept(&store, "dead").await.queued, 1000);
}
