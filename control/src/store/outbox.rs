//! Who is told of incidents, and the messages on their way to them.

use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{NotifierEvent, NotifierName, NotifierSpec};

use super::{IncidentRecord, Store, StoreError, objects::from_json, to_json};
use crate::time::{rfc3339, unix_millis};

/// Somebody who is told, with the secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NotifierRecord {
    pub(crate) name: NotifierName,
    /// Its `secret` is there if there is one: for the signature, and for nobody else.
    pub(crate) spec: NotifierSpec,
    /// Messages that are not delivered yet.
    pub(crate) queued: i64,
    /// Of the last try to deliver one of those.
    pub(crate) last_error: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

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

const SELECT: &str = "SELECT name, spec, secret, created_at, updated_at,
    (SELECT COUNT(*) FROM outbox WHERE notifier = name) AS queued,
    (SELECT MAX(last_error) FROM outbox WHERE notifier = name) AS last_error FROM notifiers";

impl Store {
    pub(crate) async fn notifiers(&self) -> Result<Vec<NotifierRecord>, StoreError> {
        let select = format!("{SELECT} ORDER BY name");
        let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&self.readers).await?;
        Ok(rows.iter().filter_map(|row| NotifierRecord::of(row).ok()).collect())
    }

    pub(crate) async fn notifier(&self, name: &str) -> Result<Option<NotifierRecord>, StoreError> {
        let select = format!("{SELECT} WHERE name = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(select)).bind(name);
        let row = row.fetch_optional(&self.readers).await?;
        row.as_ref().map(NotifierRecord::of).transpose()
    }

    /// Makes a notifier what is written; without a secret it keeps the one it has. Returns whether
    /// it is new.
    pub(crate) async fn put_notifier(
        &self,
        name: &NotifierName,
        spec: &NotifierSpec,
    ) -> Result<bool, StoreError> {
        let shown = NotifierSpec { secret: None, ..spec.clone() };
        self.write(async |writing| {
            let former = sqlx::query("SELECT name FROM notifiers WHERE name = $1").bind(&**name);
            let is_new = former.fetch_optional(&mut *writing).await?.is_none();
            sqlx::query(
                "INSERT INTO notifiers (name, spec, secret, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $4)
                 ON CONFLICT (name) DO UPDATE SET spec = excluded.spec,
                    secret = COALESCE(excluded.secret, notifiers.secret),
                    updated_at = excluded.updated_at",
            )
            .bind(&**name)
            .bind(to_json(&shown)?)
            .bind(spec.secret.as_deref().map(seal))
            .bind(unix_millis())
            .execute(writing)
            .await?;
            Ok(is_new)
        })
        .await
    }

    /// Removes a notifier and what is on its way to it; false if there was none.
    pub(crate) async fn delete_notifier(&self, name: &str) -> Result<bool, StoreError> {
        self.write(async |writing| {
            let deleted = sqlx::query("DELETE FROM notifiers WHERE name = $1")
                .bind(name)
                .execute(&mut *writing)
                .await?;
            sqlx::query("DELETE FROM outbox WHERE notifier = $1")
                .bind(name)
                .execute(writing)
                .await?;
            Ok(deleted.rows_affected() > 0)
        })
        .await
    }

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
    let rows = sqlx::query("SELECT name, spec FROM notifiers").fetch_all(&mut *writing).await?;
    for row in &rows {
        // One that cannot be read is told nothing; the incident is noted all the same.
        let Ok(spec) = from_json::<NotifierSpec>(row, "spec") else { continue };
        if !spec.events.contains(&event) || incident.severity < spec.min_severity {
            continue;
        }
        let name: String = row.try_get("name")?;
        let body = body(event.as_str(), incident, now).to_string();
        sqlx::query(
            "INSERT INTO outbox (id, notifier, body, created_at, due_at, attempts)
             VALUES ($1, $2, $3, $4, $4, 0)",
        )
        .bind(format!("msg_{}", crate::random::hex(16)))
        .bind(&name)
        .bind(body)
        .bind(now)
        .execute(&mut *writing)
        .await?;
        sqlx::query(
            "DELETE FROM outbox WHERE notifier = $1 AND id NOT IN (SELECT id FROM outbox
                WHERE notifier = $1 ORDER BY created_at DESC, id DESC LIMIT $2)",
        )
        .bind(&name)
        .bind(MOST_QUEUED)
        .execute(&mut *writing)
        .await?;
    }
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

impl NotifierRecord {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let name: String = row.try_get("name")?;
        let secret: Option<String> = row.try_get("secret")?;
        let spec: NotifierSpec = from_json(row, "spec")?;
        Ok(Self {
            name: name.parse().map_err(StoreError::Corrupt)?,
            spec: NotifierSpec { secret: secret.as_deref().map(open_seal), ..spec },
            queued: row.try_get("queued")?,
            last_error: row.try_get("last_error")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
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

/// A secret as it is kept: readable by whoever can read the database, which is its owner.
fn seal(secret: &str) -> String {
    secret.to_owned()
}

fn open_seal(kept: &str) -> String {
    kept.to_owned()
}
