//! What is kept of what happened, and for how long.

use super::*;
use crate::{
    api::wire::LogRecord,
    store::{
        DeploymentId, EventFilter, Kind, Known, KnownLog, NewEvent, Note, Page, Place, Repeatable,
    },
};

fn event(app: &str, message: String) -> Note {
    let event = NewEvent {
        kind: "App",
        name: app.to_owned(),
        deployment: None,
        what: "Changed",
        reason: "Applied".to_owned(),
        message,
    };
    Note::Event { at: crate::time::unix_millis(), event, is_step: true }
}

fn deployment() -> DeploymentId {
    DeploymentId { app: name("shop"), number: 1 }
}

fn line(text: String) -> Note {
    let (instance, stream) = ("shop-1-0".to_owned(), "stdout".to_owned());
    let record = LogRecord { instance, stream, text };
    Note::Line { deployment: deployment(), container: "c1".to_owned(), record }
}

#[tokio::test]
async fn of_events_the_last_of_each_object_are_kept() {
    let bench = Bench::new().await;
    bench.store.note(&[event("quiet", "first".to_owned())]).await.unwrap();
    for batch in 0..3 {
        let many: Vec<_> =
            (0..500).map(|i| event("busy", format!("{}", batch * 500 + i))).collect();
        bench.store.note(&many).await.unwrap();
    }
    let of = async |app: &str| {
        let filter = EventFilter { kind: Some("App".to_owned()), name: Some(app.to_owned()) };
        bench.store.events(&filter, &Page::default()).await.unwrap()
    };
    let busy = of("busy").await;
    assert_eq!((busy.len(), &*busy[0].message, &*busy[999].message), (1000, "1499", "500"));
    assert_eq!(of("quiet").await.len(), 1);
    let all = bench.store.events_since(&EventFilter::default(), 1400, 1000).await.unwrap();
    assert_eq!((all.len(), all[0].id), (101, 1401), "numbered through, without a gap");
}

#[tokio::test]
async fn of_a_deployments_log_the_last_part_is_kept() {
    let mut bench = Bench::new().await;
    for batch in 0..15 {
        let text = |i| format!("{} {}", batch * 200 + i, "x".repeat(1000));
        let many: Vec<_> = (0..200).map(|i| line(text(i))).collect();
        bench.store.note(&many).await.unwrap();
    }
    bench.reopen("test.example").await;
    let kept = bench.store.deployment_log(&deployment(), 0, 10_000).await.unwrap();
    let bytes: usize = kept.iter().map(|entry| entry.data.len()).sum();
    assert!(bytes <= 1 << 20 && bytes > (1 << 20) - (32 << 10), "{bytes}");
    assert_eq!(kept.last().unwrap().seq, 3000);
    assert!(kept.is_sorted_by(|a, b| a.seq + 1 == b.seq), "it has no gap but at its beginning");
    assert_eq!(bench.store.noted_lines(&deployment(), "c1").await.unwrap(), 3000);

    let known = KnownLog { deployment: deployment(), has_ended: false, is_newest: true };
    assert_eq!(bench.store.known_deployment_logs().await.unwrap(), std::slice::from_ref(&known));
    let end = Note::End { deployment: deployment(), state: "live" };
    bench.store.note(&[end]).await.unwrap();
    let ended = KnownLog { has_ended: true, ..known };
    assert_eq!(bench.store.known_deployment_logs().await.unwrap(), [ended]);
    let end = bench.store.deployment_log_end(&deployment()).await.unwrap();
    assert_eq!(end, Some((3001, true)));
}

#[tokio::test]
async fn what_has_changed_since_a_place_is_told_once_or_not_known() {
    let bench = Bench::new().await;
    bench.put("one", "{image: a}").await;
    let place = bench.store.place().await.unwrap();
    bench.put("two", "{image: a}").await;
    bench.put("two", "{image: b}").await;
    bench.store.note(&[event("one", "something".to_owned())]).await.unwrap();
    bench.put_shard("east", "\"10.0.0.1:80\"").await;
    let changed = bench.store.changed_since(place, &[Kind::App]).await.unwrap().unwrap();
    let mut objects = changed.objects;
    objects.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(objects, [(Kind::App, "one".to_owned()), (Kind::App, "two".to_owned())]);
    assert_eq!(changed.up_to.to_string(), "4.1");
    let none = bench.store.changed_since(changed.up_to, &Kind::ALL).await.unwrap().unwrap();
    assert_eq!((none.objects, none.up_to), (Vec::new(), changed.up_to));

    let to_come = Place { revision: 9, event: None };
    assert!(bench.store.changed_since(to_come, &Kind::ALL).await.unwrap().is_none());
    sqlx::query("DELETE FROM changes WHERE rev <= 3")
        .execute(bench.store.writer.pool())
        .await
        .unwrap();
    assert!(bench.store.changed_since(place, &Kind::ALL).await.unwrap().is_none());
}

#[tokio::test]
async fn a_request_that_was_done_but_not_answered_is_known_after_a_crash() {
    let mut bench = Bench::new().await;
    let request = |key: &str| {
        let (actor, fingerprint) = ("test".to_owned(), "f".to_owned());
        Repeatable { actor, key: key.to_owned(), fingerprint }
    };
    for key in ["done", "begun"] {
        let known = bench.store.repeatable(&request(key)).await.unwrap();
        assert!(matches!(known, Known::New), "{known:?}");
        let known = bench.store.repeatable(&request(key)).await.unwrap();
        assert!(matches!(known, Known::UnderWay), "{known:?}");
    }
    let manifest = "kind: Shard\nname: east\nspec: {members: [{address: \"10.0.0.1:80\"}]}";
    let (manifest, shard) =
        Shard::read(parse_documents(manifest).unwrap()[0].value.clone()).unwrap();
    let cause = Cause { key: Some("done"), ..PUT };
    let written = bench.store.put(&manifest.spec, &shard, Precondition::None, cause).await.unwrap();
    let number = written.operation.unwrap().number;

    bench.reopen("test.example").await;
    let known = bench.store.repeatable(&request("done")).await.unwrap();
    assert!(matches!(known, Known::Done { operation } if operation == number), "{known:?}");
    let known = bench.store.repeatable(&request("begun")).await.unwrap();
    assert!(matches!(known, Known::New), "{known:?}");
}
