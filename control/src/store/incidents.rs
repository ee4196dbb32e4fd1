//! Incidents and what has come of each. Nothing here is meant by an operator, so no revision is
//! taken.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{NotifierEvent, Severity};

use super::{Store, StoreError, failover_actions, outbox::enqueue};
use crate::{
    incidents::{Key, Rule, Trouble},
    time::unix_millis,
};

/// An incident as it is stored; times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IncidentRecord {
    pub(crate) id: String,
    pub(crate) rule: String,
    pub(crate) subject: String,
    pub(crate) severity: Severity,
    pub(crate) title: String,
    pub(crate) detail: String,
    pub(crate) is_open: bool,
    pub(crate) occurrences: i64,
    pub(crate) opened_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) resolved_at: Option<i64>,
    pub(crate) acknowledged_by: Option<String>,
    pub(crate) acknowledged_at: Option<i64>,
}

/// One line of an incident's record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IncidentEvent {
    pub(crate) number: i64,
    pub(crate) at: i64,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) detail: String,
}

/// What an operator does to an incident.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum IncidentAction {
    Acknowledge,
    Resolve,
    Note(String),
}

/// Which incidents are asked for, the newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct IncidentQuery {
    pub(crate) is_open: Option<bool>,
    pub(crate) subject: Option<String>,
    /// Only those behind this one.
    pub(crate) after: Option<(i64, String)>,
    pub(crate) limit: i64,
}

/// One that comes back within this is the same one.
const REOPEN_WITHIN_MS: i64 = 3600 * 1000;
/// Resolved ones are forgotten after this,
const KEPT_MS: i64 = 90 * 24 * 3600 * 1000;
/// and sooner when there are more.
const MOST_KEPT: i64 = 10_000;
/// Of one incident; the oldest go first.
const MOST_EVENTS: i64 = 500;
/// Who acts when nobody does.
const LOOP: &str = "weir";

const COLUMNS: &str = "id, rule, subject, severity, title, detail, state, occurrences, opened_at,
    updated_at, resolved_at, acknowledged_by, acknowledged_at, last_event";

impl Store {
    /// What identifies each open incident.
    pub(crate) async fn open_incidents(&self) -> Result<Vec<Key>, StoreError> {
        let rows = sqlx::query("SELECT rule, subject FROM incidents WHERE state = 'open'")
            .fetch_all(&self.readers)
            .await?;
        let key = |row: &SqliteRow| {
            let rule: String = row.try_get("rule").ok()?;
            // One of a newer Weir's rules is left to it.
            let rule = Rule::ALL.into_iter().find(|known| known.as_str() == rule)?;
            Some((rule, row.try_get("subject").ok()?))
        };
        Ok(rows.iter().filter_map(key).collect())
    }

    /// Opens an incident, or the last one of its kind again if that is not long ago.
    pub(crate) async fn open_incident(&self, trouble: &Trouble) -> Result<(), StoreError> {
        self.write(async |writing| {
            let now = unix_millis();
            let former = last_of(writing, trouble).await?;
            if former.as_ref().is_some_and(|former| former.is_open) {
                return change(writing, trouble, now).await;
            }
            let reopened = former.filter(|f| f.resolved_at.unwrap_or(0) > now - REOPEN_WITHIN_MS);
            let (id, action) = match reopened {
                Some(former) => {
                    reopen(writing, &former.id, trouble, now).await?;
                    (former.id, "reopened")
                }
                None => (insert(writing, trouble, now).await?, "opened"),
            };
            add_event(writing, &id, LOOP, action, &trouble.detail, now).await?;
            announce(writing, &id, NotifierEvent::Opened, now).await?;
            if trouble.rule == Rule::Failover
                && let Some(policy) = trouble.subject.strip_prefix("FailoverPolicy/")
            {
                failover_actions::ask(writing, &id, policy, now).await?;
            }
            prune(writing, now).await
        })
        .await
    }

    /// Notes that an open incident is otherwise than before.
    pub(crate) async fn update_incident(&self, trouble: &Trouble) -> Result<(), StoreError> {
        self.write(async |writing| change(writing, trouble, unix_millis()).await).await
    }

    /// Resolves the open incident whose cause is gone.
    pub(crate) async fn resolve_gone(&self, key: (Rule, &str)) -> Result<(), StoreError> {
        self.write(async |writing| {
            let now = unix_millis();
            match open_of(writing, key.0, key.1).await? {
                Some(open) => resolve(writing, &open.id, LOOP, "its cause is gone", now).await,
                None => Ok(()),
            }
        })
        .await
    }

    /// Adds a line to the record of the open incident; whether there is one.
    pub(crate) async fn tell_incident(
        &self,
        key: (Rule, &str),
        action: &str,
        detail: &str,
    ) -> Result<bool, StoreError> {
        self.write(async |writing| {
            let Some(open) = open_of(writing, key.0, key.1).await? else { return Ok(false) };
            add_event(writing, &open.id, LOOP, action, detail, unix_millis()).await?;
            Ok(true)
        })
        .await
    }

    /// What an operator does; `None` if there is no such incident.
    pub(crate) async fn act_on_incident(
        &self,
        id: &str,
        action: &IncidentAction,
        actor: &str,
    ) -> Result<Option<IncidentRecord>, StoreError> {
        self.write(async |writing| {
            let now = unix_millis();
            let Some(incident) = by_id(writing, id).await? else { return Ok(None) };
            match action {
                IncidentAction::Note(text) => {
                    add_event(writing, id, actor, "note", text, now).await?;
                }
                IncidentAction::Resolve if incident.is_open => {
                    resolve(writing, id, actor, "", now).await?;
                }
                IncidentAction::Acknowledge if incident.acknowledged_by.is_none() => {
                    sqlx::query(
                        "UPDATE incidents SET acknowledged_by = $2, acknowledged_at = $3,
                            updated_at = $3 WHERE id = $1",
                    )
                    .bind(id)
                    .bind(actor)
                    .bind(now)
                    .execute(&mut *writing)
                    .await?;
                    add_event(writing, id, actor, "acknowledged", "", now).await?;
                }
                IncidentAction::Resolve | IncidentAction::Acknowledge => {}
            }
            by_id(writing, id).await
        })
        .await
    }

    pub(crate) async fn incidents(
        &self,
        query: &IncidentQuery,
    ) -> Result<Vec<IncidentRecord>, StoreError> {
        let state = query.is_open.map(|is_open| if is_open { "open" } else { "resolved" });
        let (at, id) = query.after.clone().unwrap_or((i64::MAX, String::new()));
        let select = format!(
            "SELECT {COLUMNS} FROM incidents
             WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR subject = $2)
                AND (opened_at < $3 OR (opened_at = $3 AND id < $4))
             ORDER BY opened_at DESC, id DESC LIMIT $5"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(select))
            .bind(state)
            .bind(&query.subject)
            .bind(at)
            .bind(id)
            .bind(query.limit)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(IncidentRecord::of).collect()
    }

    /// One incident with its record, the oldest event first.
    pub(crate) async fn incident(
        &self,
        id: &str,
    ) -> Result<Option<(IncidentRecord, Vec<IncidentEvent>)>, StoreError> {
        let mut reader = self.readers.begin().await?;
        let Some(incident) = by_id(&mut reader, id).await? else { return Ok(None) };
        let rows = sqlx::query(
            "SELECT number, at, actor, action, detail FROM incident_events WHERE incident = $1
             ORDER BY number",
        )
        .bind(id)
        .fetch_all(&mut *reader)
        .await?;
        let events: Result<_, StoreError> = rows.iter().map(IncidentEvent::of).collect();
        Ok(Some((incident, events?)))
    }
}

impl IncidentRecord {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.try_get("id")?,
            rule: row.try_get("rule")?,
            subject: row.try_get("subject")?,
            severity: match row.try_get::<String, _>("severity")?.as_str() {
                "warning" => Severity::Warning,
                _ => Severity::Critical,
            },
            title: row.try_get("title")?,
            detail: row.try_get("detail")?,
            is_open: row.try_get::<String, _>("state")? == "open",
            occurrences: row.try_get("occurrences")?,
            opened_at: row.try_get("opened_at")?,
            updated_at: row.try_get("updated_at")?,
            resolved_at: row.try_get("resolved_at")?,
            acknowledged_by: row.try_get("acknowledged_by")?,
            acknowledged_at: row.try_get("acknowledged_at")?,
        })
    }
}

impl IncidentEvent {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            number: row.try_get("number")?,
            at: row.try_get("at")?,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            detail: row.try_get("detail")?,
        })
    }
}

async fn by_id(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<IncidentRecord>, StoreError> {
    let select = format!("SELECT {COLUMNS} FROM incidents WHERE id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(select)).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(IncidentRecord::of).transpose()
}

async fn last_of(
    connection: &mut SqliteConnection,
    trouble: &Trouble,
) -> Result<Option<IncidentRecord>, StoreError> {
    let select = format!(
        "SELECT {COLUMNS} FROM incidents WHERE rule = $1 AND subject = $2
         ORDER BY opened_at DESC, id DESC LIMIT 1"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(select))
        .bind(trouble.rule.as_str())
        .bind(&trouble.subject)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(IncidentRecord::of).transpose()
}

async fn open_of(
    connection: &mut SqliteConnection,
    rule: Rule,
    subject: &str,
) -> Result<Option<IncidentRecord>, StoreError> {
    let select = format!(
        "SELECT {COLUMNS} FROM incidents WHERE rule = $1 AND subject = $2 AND state = 'open'"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(select))
        .bind(rule.as_str())
        .bind(subject)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(IncidentRecord::of).transpose()
}

async fn insert(
    writing: &mut SqliteConnection,
    trouble: &Trouble,
    now: i64,
) -> Result<String, StoreError> {
    let id = format!("inc-{}", crate::random::hex(6));
    sqlx::query(
        "INSERT INTO incidents (id, rule, subject, severity, title, detail, state, occurrences,
            opened_at, updated_at, last_event) VALUES ($1, $2, $3, $4, $5, $6, 'open', 1, $7, $7, 0)",
    )
    .bind(&id)
    .bind(trouble.rule.as_str())
    .bind(&trouble.subject)
    .bind(trouble.severity.as_str())
    .bind(&trouble.title)
    .bind(&trouble.detail)
    .bind(now)
    .execute(writing)
    .await?;
    Ok(id)
}

async fn reopen(
    writing: &mut SqliteConnection,
    id: &str,
    trouble: &Trouble,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE incidents SET state = 'open', severity = $2, title = $3, detail = $4,
            occurrences = occurrences + 1, updated_at = $5, resolved_at = NULL,
            acknowledged_by = NULL, acknowledged_at = NULL WHERE id = $1",
    )
    .bind(id)
    .bind(trouble.severity.as_str())
    .bind(&trouble.title)
    .bind(&trouble.detail)
    .bind(now)
    .execute(writing)
    .await?;
    Ok(())
}

async fn change(
    writing: &mut SqliteConnection,
    trouble: &Trouble,
    now: i64,
) -> Result<(), StoreError> {
    let Some(former) = open_of(writing, trouble.rule, &trouble.subject).await? else {
        return Ok(());
    };
    let told = |incident: &IncidentRecord| {
        (incident.severity, incident.title.clone(), incident.detail.clone())
    };
    if told(&former) == (trouble.severity, trouble.title.clone(), trouble.detail.clone()) {
        return Ok(());
    }
    sqlx::query(
        "UPDATE incidents SET severity = $2, title = $3, detail = $4, updated_at = $5
         WHERE id = $1",
    )
    .bind(&former.id)
    .bind(trouble.severity.as_str())
    .bind(&trouble.title)
    .bind(&trouble.detail)
    .bind(now)
    .execute(&mut *writing)
    .await?;
    add_event(writing, &former.id, LOOP, "changed", &trouble.detail, now).await
}

async fn resolve(
    writing: &mut SqliteConnection,
    id: &str,
    actor: &str,
    why: &str,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE incidents SET state = 'resolved', resolved_at = $2, updated_at = $2 WHERE id = $1",
    )
    .bind(id)
    .bind(now)
    .execute(&mut *writing)
    .await?;
    add_event(writing, id, actor, "resolved", why, now).await?;
    announce(writing, id, NotifierEvent::Resolved, now).await
}

async fn add_event(
    writing: &mut SqliteConnection,
    incident: &str,
    actor: &str,
    action: &str,
    detail: &str,
    now: i64,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "UPDATE incidents SET last_event = last_event + 1 WHERE id = $1 RETURNING last_event",
    )
    .bind(incident)
    .fetch_one(&mut *writing)
    .await?;
    let number: i64 = row.try_get("last_event")?;
    sqlx::query(
        "INSERT INTO incident_events (incident, number, at, actor, action, detail)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(incident)
    .bind(number)
    .bind(now)
    .bind(actor)
    .bind(action)
    .bind(detail)
    .execute(&mut *writing)
    .await?;
    sqlx::query("DELETE FROM incident_events WHERE incident = $1 AND number <= $2")
        .bind(incident)
        .bind(number - MOST_EVENTS)
        .execute(writing)
        .await?;
    Ok(())
}

/// Leaves a message for everybody who is to be told, in the same write.
async fn announce(
    writing: &mut SqliteConnection,
    id: &str,
    event: NotifierEvent,
    now: i64,
) -> Result<(), StoreError> {
    match by_id(writing, id).await? {
        Some(incident) => enqueue(writing, event, &incident, now).await,
        None => Ok(()),
    }
}

async fn prune(writing: &mut SqliteConnection, now: i64) -> Result<(), StoreError> {
    let pruned = sqlx::query(
        "DELETE FROM incidents WHERE state = 'resolved' AND (resolved_at < $1 OR id NOT IN
            (SELECT id FROM incidents WHERE state = 'resolved'
             ORDER BY opened_at DESC, id DESC LIMIT $2))",
    )
    .bind(now - KEPT_MS)
    .bind(MOST_KEPT)
    .execute(&mut *writing)
    .await?;
    if pruned.rows_affected() > 0 {
        sqlx::query("DELETE FROM incident_events WHERE incident NOT IN (SELECT id FROM incidents)")
            .execute(writing)
            .await?;
    }
    Ok(())
}
