//! What happened to objects, kept so far back as it is of use.

use std::collections::BTreeSet;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{Page, Store, StoreError, sequence, signed, unsigned};

/// Of one object.
const KEPT_OF_ONE: i64 = 1000;
/// Of all together.
const KEPT: i64 = 100_000;

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewEvent {
    /// `App`, `Shard` or `Host`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// The deployment that it is a step of, if it is of one.
    pub(crate) deployment: Option<u64>,
    /// What happened, as a stable word for programs.
    pub(crate) what: &'static str,
    /// Why, as a stable word for programs.
    pub(crate) reason: String,
    /// A sentence for people.
    pub(crate) message: String,
}

/// As it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredEvent {
    /// Grows with every event.
    pub(crate) id: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: i64,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) deployment: Option<u64>,
    pub(crate) what: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Which events to list; those of all objects if `kind` and `name` are empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    pub(crate) kind: Option<String>,
    pub(crate) name: Option<String>,
}

/// Appends events, in their order, and drops what is too old to be kept.
pub(super) async fn append(
    writing: &mut SqliteConnection,
    events: &[(i64, &NewEvent)],
) -> Result<(), StoreError> {
    let Some(first) = sequence(writing, "events", events.len()).await? else { return Ok(()) };
    for (id, (at, event)) in (first..).zip(events) {
        sqlx::query(
            "INSERT INTO events (id, at, kind, name, deployment, type, reason, message)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(signed(id))
        .bind(at)
        .bind(event.kind)
        .bind(&event.name)
        .bind(event.deployment.map(signed))
        .bind(event.what)
        .bind(&event.reason)
        .bind(&event.message)
        .execute(&mut *writing)
        .await?;
    }
    let objects: BTreeSet<_> = events.iter().map(|(_, event)| (event.kind, &event.name)).collect();
    for (kind, name) in objects {
        sqlx::query(
            "DELETE FROM events WHERE kind = $1 AND name = $2 AND id <=
               (SELECT id FROM events WHERE kind = $1 AND name = $2
                ORDER BY id DESC LIMIT 1 OFFSET $3)",
        )
        .bind(kind)
        .bind(name)
        .bind(KEPT_OF_ONE)
        .execute(&mut *writing)
        .await?;
    }
    sqlx::query("DELETE FROM events WHERE id < $1")
        .bind(signed(first) + events.len() as i64 - KEPT)
        .execute(writing)
        .await?;
    Ok(())
}

impl Store {
    /// The newest first.
    pub(crate) async fn events(
        &self,
        filter: &EventFilter,
        page: &Page<u64>,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM events WHERE id < $1 AND ($2 IS NULL OR kind = $2)
             AND ($3 IS NULL OR name = $3) ORDER BY id DESC LIMIT $4",
        )
        .bind(page.after.map_or(i64::MAX, signed))
        .bind(&filter.kind)
        .bind(&filter.name)
        .bind(page.limit())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(StoredEvent::of).collect()
    }

    /// Those after one, the oldest first.
    pub(crate) async fn events_since(
        &self,
        filter: &EventFilter,
        id: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM events WHERE id > $1 AND ($2 IS NULL OR kind = $2)
             AND ($3 IS NULL OR name = $3) ORDER BY id LIMIT $4",
        )
        .bind(signed(id))
        .bind(&filter.kind)
        .bind(&filter.name)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(StoredEvent::of).collect()
    }
}

impl StoredEvent {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: unsigned(row.try_get("id")?),
            at: row.try_get("at")?,
            kind: row.try_get("kind")?,
            name: row.try_get("name")?,
            deployment: row.try_get::<Option<i64>, _>("deployment")?.map(unsigned),
            what: row.try_get("type")?,
            reason: row.try_get("reason")?,
            message: row.try_get("message")?,
        })
    }
}
