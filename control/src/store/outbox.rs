//! The messages on their way to those who are told of incidents.

use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{NotifierEvent, NotifierSpec};

use super::{IncidentRecord, Store, StoreError, objects::from_json};
use crate::time::{rfc3339, unix_millis};

/// A message on its way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// The same with each try, so that who is told can leave out what comes twice.
    pub(crate) id: String,
    pub(crate) notifier: String,
    pub(crate) body: String,
    pub(crate) created_at: i64,
    pub(crate) attempts: i64,
}

/// More than these for one notifier push out its oldest.
const MOST_QUEUED: i64 = 1000;

/// After so many tries a message waits behind the others.
const LETS_OTHERS_GO: i64 = 10;

impl Store {
    /// The names of those to whom a message is due.
    pub(crate) async fn notifiers_with_due(&self) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT DISTINCT notifier FROM outbox WHERE due_at <= $1")
            .bind(unix_millis())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(row.try_get("notifier")?)).collect()
    }

    /// The messages that are due to one notifier, the oldest first; one that it does not take
    /// lets the others go first after a while.
    pub(crate) async fn due_messages(
        &self,
        notifier: &str,
        limit: i64,
    ) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, notifier, body, created_at, attempts FROM outbox
             WHERE notifier = $1 AND due_at <= $2 ORDER BY attempts >= $3, created_at, id LIMIT $4",
        )
        .bind(notifier)
        .bind(unix_millis())
        .bind(LETS_OTHERS_GO)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(Message::of).collect()
    }

    /// A message is delivered, or given up.
    pub(crate) async fn forget_message(&self, id: &str) -> Result<(), StoreError> {
        self.write(async |writing| {
            sqlx::query("DELETE FROM outbox WHERE id = $1").bind(id).execute(writing).await?;
            Ok(())
        })
        .await
    }

    /// A message could not be delivered; until `due_at` nothing is sent to its notifier.
    pub(crate) async fn postpone_message(
        &self,
        message: &Message,
        due_at: i64,
        error: &str,
    ) -> Result<(), StoreError> {
        self.write(async |writing| {
            sqlx::query("UPDATE outbox SET attempts = attempts + 1, last_error = $2 WHERE id = $1")
                .bind(&message.id)
                .bind(error)
                .execute(&mut *writing)
                .await?;
            sqlx::query("UPDATE outbox SET due_at = $2 WHERE notifier = $1 AND due_at < $2")
                .bind(&message.notifier)
                .bind(due_at)
                .execute(writing)
                .await?;
            Ok(())
        })
        .await
    }
}

/// Leaves a message for each notifier that wants it.
pub(super) async fn enqueue(
    writing: &mut SqliteConnection,
    event: NotifierEvent,
    incident: &IncidentRecord,
    now: i64,
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT name, spec FROM objects WHERE kind = 'Notifier'")
        .fetch_all(&mut *writing)
        .await?;
    for row in &rows {
        // One that cannot be read is told nothing; the incident is noted all the same.
        let Ok(spec) = from_json::<NotifierSpec>(row, "spec") else { continue };
        if !spec.events.contains(&event) || incident.severity < spec.min_severity {
            continue;
        }
        let name: String = row.try_get("name")?;
        let body = body(event.as_str(), incident, now).to_string();
        leave(writing, &name, body, now).await?;
    }
    Ok(())
}

/// Leaves a message for one of them.
pub(super) async fn leave(
    writing: &mut SqliteConnection,
    notifier: &str,
    body: String,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO outbox (id, notifier, body, created_at, due_at, attempts)
         VALUES ($1, $2, $3, $4, $4, 0)",
    )
    .bind(format!("msg_{}", crate::random::hex(16)))
    .bind(notifier)
    .bind(body)
    .bind(now)
    .execute(&mut *writing)
    .await?;
    sqlx::query(
        "DELETE FROM outbox WHERE notifier = $1 AND id NOT IN (SELECT id FROM outbox
            WHERE notifier = $1 ORDER BY created_at DESC, id DESC LIMIT $2)",
    )
    .bind(notifier)
    .bind(MOST_QUEUED)
    .execute(writing)
    .await?;
    Ok(())
}

/// A message, as Standard Webhooks has it.
pub(crate) fn body(event: &str, incident: &IncidentRecord, now: i64) -> serde_json::Value {
    json!({
        "type": event,
        "timestamp": rfc3339(now),
        "data": {
            "id": incident.id,
            "rule": incident.rule,
            "subject": incident.subject,
            "severity": incident.severity,
            "title": incident.title,
            "detail": incident.detail,
            "state": if incident.is_open { "open" } else { "resolved" },
            "occurrences": incident.occurrences,
            "opened_at": rfc3339(incident.opened_at),
            "resolved_at": incident.resolved_at.map(rfc3339),
        },
    })
}

impl Message {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.try_get("id")?,
            notifier: row.try_get("notifier")?,
            body: row.try_get("body")?,
            created_at: row.try_get("created_at")?,
            attempts: row.try_get("attempts")?,
        })
    }
}
