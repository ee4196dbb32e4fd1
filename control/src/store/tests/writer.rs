//! Writes that share a transaction.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use futures::{
    FutureExt,
    future::{join, join_all},
};
use sqlx::SqliteConnection;
use tokio::sync::Notify;

use super::*;

/// Counts the commits from here on.
async fn commits(store: &Store) -> Arc<AtomicU32> {
    let commits = Arc::new(AtomicU32::new(0));
    let count = commits.clone();
    let mut connection = store.writer.pool().acquire().await.unwrap();
    connection.lock_handle().await.unwrap().set_commit_hook(move || {
        count.fetch_add(1, Relaxed);
        true
    });
    commits
}

async fn add_token(writing: &mut SqliteConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO tokens (id, hash, created_at) VALUES ($1, $1, 0)")
        .bind(id)
        .execute(writing)
        .await?;
    Ok(())
}

async fn has_token(store: &Store, id: &str) -> bool {
    store.token(id).await.unwrap().is_some()
}

#[tokio::test]
async fn those_who_wait_share_a_commit_and_one_that_fails_fails_alone() {
    let bench = Bench::new().await;
    let commits = commits(&bench.store).await;
    let writes = (0..8).map(async |n| {
        let holds = if n == 3 { Precondition::Exists } else { Precondition::New };
        let written = bench.write(&format!("app-{n}"), "{image: a}", holds, false).await;
        // Whoever has an answer finds what it wrote, and so does everybody else.
        if let Ok(written) = &written {
            assert!(bench.store.find::<App>(&written.record.name).await.unwrap().is_some());
        }
        written
    });
    let mut revisions = Vec::new();
    for (n, written) in join_all(writes).await.into_iter().enumerate() {
        match written {
            Ok(written) => revisions.push(written.record.meta.revision),
            Err(error) => assert!(n == 3 && matches!(error, StoreError::Absent { .. }), "{error}"),
        }
    }
    assert_eq!(revisions, (1..=7).collect::<Vec<_>>());
    assert_eq!(commits.load(Relaxed), 1);
    assert_eq!(bench.store.changes_since(0).await.unwrap().unwrap().1.len(), 7);
}

#[tokio::test]
async fn nobody_is_answered_before_the_commit() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let (reached, go_on) = (Notify::new(), Notify::new());
    let first = store.write(async |writing| add_token(writing, "first").await);
    let second = store.write(async |writing| {
        reached.notify_one();
        go_on.notified().await;
        add_token(writing, "second").await
    });
    let mut both = pin!(join(first, second));
    tokio::select! {
        _ = &mut both => unreachable!("the second waits to be told"),
        // Its turn comes when the first has done its work.
        () = reached.notified() => {}
    }
    assert!(!has_token(store, "first").await);
    assert!(both.as_mut().now_or_never().is_none());
    go_on.notify_one();
    let (first, second) = both.await;
    first.and(second).unwrap();
    assert!(has_token(store, "first").await && has_token(store, "second").await);
}

#[tokio::test]
async fn what_is_given_up_half_done_is_taken_back_alone() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let (reached, never) = (Notify::new(), Notify::new());
    let kept = store.write(async |writing| add_token(writing, "kept").await);
    let given_up = async {
        let write = store.write(async |writing| {
            add_token(writing, "given up").await?;
            reached.notify_one();
            never.notified().await;
            Ok(())
        });
        tokio::select! {
            _ = write => unreachable!("it waits for nothing that comes"),
            () = reached.notified() => {}
        }
    };
    let after = store.write(async |writing| add_token(writing, "after").await);
    let (kept, (), after) = tokio::join!(kept, given_up, after);
    kept.unwrap();
    after.unwrap();
    assert!(has_token(store, "kept").await && has_token(store, "after").await);
    assert!(!has_token(store, "given up").await);
}

#[tokio::test]
async fn of_a_transaction_that_is_lost_nobody_is_told_that_it_was_written() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let before = store.write(async |writing| add_token(writing, "before").await);
    // As SQLite does when the disk is full.
    let fatal = store.write(async |writing| {
        sqlx::query("ROLLBACK").execute(&mut *writing).await?;
        Err::<(), _>(StoreError::Full)
    });
    let after = store.write(async |writing| add_token(writing, "after").await);
    let (before, fatal, after) = tokio::join!(before, fatal, after);
    for failed in [before, fatal, after] {
        assert!(matches!(failed, Err(StoreError::Full)), "{failed:?}");
    }
    assert!(!has_token(store, "before").await && !has_token(store, "after").await);
    assert!(store.is_full());
    store.write(async |writing| add_token(writing, "later").await).await.unwrap();
    assert!(has_token(store, "later").await && !store.is_full());
}
