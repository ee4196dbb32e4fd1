//! The steps of a deployment, and what its instances wrote until it was live: one numbered stream
//! for each deployment, of which the last part is kept.

use std::collections::BTreeMap;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::AppName;

use super::{Store, StoreError, events, signed, to_json, unsigned};
use crate::{
    api::wire::{LogRecord, StepRecord},
    store::NewEvent,
    time::{rfc3339, unix_millis},
};

/// Bytes of one deployment's log that are kept.
const KEPT_BYTES: i64 = 1 << 20;
/// Deployments of one app whose logs are kept.
const KEPT_LOGS: i64 = 20;

/// What the history takes down, in this order.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    Event {
        /// Milliseconds since the Unix epoch.
        at: i64,
        event: NewEvent,
        /// Whether it is one in the log of its deployment, too.
        is_step: bool,
    },
    /// A line of a container's output.
    Line { deployment: DeploymentId, container: String, record: LogRecord },
    /// The deployment is settled, as this word says.
    End { deployment: DeploymentId, state: &'static str },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeploymentId {
    pub(crate) app: AppName,
    pub(crate) number: u64,
}

impl DeploymentId {
    /// What an event is about, if it is of a deployment.
    pub(crate) fn of(event: &NewEvent) -> Option<Self> {
        Some(Self { app: event.name.parse().ok()?, number: event.deployment? })
    }
}

/// One entry of a deployment's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// Counts from 1 within the deployment.
    pub(crate) seq: u64,
    /// `step`, `log` or `end`.
    pub(crate) what: String,
    /// JSON.
    pub(crate) data: String,
}

/// The log of a deployment as it was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownLog {
    pub(crate) deployment: DeploymentId,
    pub(crate) has_ended: bool,
    /// Of the logs of its app.
    pub(crate) is_newest: bool,
}

/// What is to be added to one deployment's log.
#[derive(Default)]
struct Added {
    entries: Vec<(&'static str, String)>,
    /// Lines by container.
    lines: BTreeMap<String, i64>,
}

impl Store {
    /// Takes down what happened.
    pub(crate) async fn note(&self, notes: &[Note]) -> Result<(), StoreError> {
        let (mut events, mut logs) = (Vec::new(), BTreeMap::<DeploymentId, Added>::new());
        for note in notes {
            match note {
                Note::Event { at, event, is_step } => {
                    if let (true, Some(deployment)) = (*is_step, DeploymentId::of(event)) {
                        let added = logs.entry(deployment).or_default();
                        added.entries.push(("step", to_json(&step(*at, event))?));
                    }
                    events.push((*at, event));
                }
                Note::Line { deployment, container, record } => {
                    let added = logs.entry(deployment.clone()).or_default();
                    added.entries.push(("log", to_json(record)?));
                    *added.lines.entry(container.clone()).or_default() += 1;
                }
                Note::End { deployment, state } => {
                    let end = serde_json::json!({ "state": state }).to_string();
                    logs.entry(deployment.clone()).or_default().entries.push(("end", end));
                }
            }
        }
        let noted = self.write(async |writing| {
            events::append(writing, &events).await?;
            for (deployment, added) in &logs {
                append(writing, deployment, added).await?;
            }
            Ok(())
        });
        noted.await?;
        self.noted.send_replace(());
        Ok(())
    }

    /// Entries of a deployment's log after one of them.
    pub(crate) async fn deployment_log(
        &self,
        deployment: &DeploymentId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT seq, type, data FROM deployment_log_lines
             WHERE app = $1 AND number = $2 AND seq > $3 ORDER BY seq LIMIT $4",
        )
        .bind(&*deployment.app)
        .bind(signed(deployment.number))
        .bind(signed(after))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(LogEntry::of).collect()
    }

    /// The number of the last entry, and whether it ends the log; `None` if there is no log.
    pub(crate) async fn deployment_log_end(
        &self,
        deployment: &DeploymentId,
    ) -> Result<Option<(u64, bool)>, StoreError> {
        let row = sqlx::query(
            "SELECT g.last_seq, l.type FROM deployment_logs g
             LEFT JOIN deployment_log_lines l
               ON l.app = g.app AND l.number = g.number AND l.seq = g.last_seq
             WHERE g.app = $1 AND g.number = $2",
        )
        .bind(&*deployment.app)
        .bind(signed(deployment.number))
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let ended = row.try_get::<Option<String>, _>("type")?.as_deref() == Some("end");
        Ok(Some((unsigned(row.try_get("last_seq")?), ended)))
    }

    /// Of each app the log of its newest deployment, and those that have not ended.
    pub(crate) async fn known_deployment_logs(&self) -> Result<Vec<KnownLog>, StoreError> {
        let rows = sqlx::query(
            "SELECT g.app AS name, g.number, l.type,
                (SELECT MAX(number) FROM deployment_logs WHERE app = g.app) AS newest
             FROM deployment_logs g LEFT JOIN deployment_log_lines l
               ON l.app = g.app AND l.number = g.number AND l.seq = g.last_seq
             WHERE l.type IS NULL OR l.type <> 'end'
               OR g.number = (SELECT MAX(number) FROM deployment_logs WHERE app = g.app)
             ORDER BY g.app, g.number",
        )
        .fetch_all(&self.readers)
        .await?;
        let of = |row: &SqliteRow| {
            let (app, number) = (super::parse_name(row)?, unsigned(row.try_get("number")?));
            let last: Option<String> = row.try_get("type")?;
            Ok(KnownLog {
                deployment: DeploymentId { app, number },
                has_ended: last.as_deref() == Some("end"),
                is_newest: unsigned(row.try_get("newest")?) == number,
            })
        };
        rows.iter().map(of).collect()
    }

    /// How many lines of a container have been noted.
    pub(crate) async fn noted_lines(
        &self,
        deployment: &DeploymentId,
        container: &str,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT lines FROM deployment_log_sources
             WHERE app = $1 AND number = $2 AND container = $3",
        )
        .bind(&*deployment.app)
        .bind(signed(deployment.number))
        .bind(container)
        .fetch_optional(&self.readers)
        .await?;
        row.map_or(Ok(0), |row| Ok(unsigned(row.try_get("lines")?)))
    }
}

fn step(at: i64, event: &NewEvent) -> StepRecord {
    StepRecord {
        at: rfc3339(at),
        r#type: event.what.to_owned(),
        reason: event.reason.clone(),
        message: event.message.clone(),
    }
}

async fn append(
    writing: &mut SqliteConnection,
    deployment: &DeploymentId,
    added: &Added,
) -> Result<(), StoreError> {
    let (app, number, now) = (&*deployment.app, signed(deployment.number), unix_millis());
    let (count, bytes) = (added.entries.len(), added.entries.iter().map(|(_, data)| data.len()));
    let row = sqlx::query(
        "INSERT INTO deployment_logs (app, number, last_seq, bytes, updated_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (app, number) DO UPDATE SET last_seq = deployment_logs.last_seq + $3,
            bytes = deployment_logs.bytes + $4, updated_at = $5
         RETURNING last_seq, bytes",
    )
    .bind(app)
    .bind(number)
    .bind(count as i64)
    .bind(bytes.sum::<usize>() as i64)
    .bind(now)
    .fetch_one(&mut *writing)
    .await?;
    let (last, bytes): (i64, i64) = (row.try_get("last_seq")?, row.try_get("bytes")?);
    for (seq, (what, data)) in (last - count as i64 + 1..).zip(&added.entries) {
        sqlx::query(
            "INSERT INTO deployment_log_lines (app, number, seq, at, type, data)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(app)
        .bind(number)
        .bind(seq)
        .bind(now)
        .bind(what)
        .bind(data)
        .execute(&mut *writing)
        .await?;
    }
    for (container, lines) in &added.lines {
        sqlx::query(
            "INSERT INTO deployment_log_sources (app, number, container, lines)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (app, number, container) DO UPDATE
               SET lines = deployment_log_sources.lines + $4",
        )
        .bind(app)
        .bind(number)
        .bind(container)
        .bind(lines)
        .execute(&mut *writing)
        .await?;
    }
    if count as i64 == last {
        forget_others(writing, app, number - KEPT_LOGS).await?;
    }
    cut(writing, app, number, bytes - KEPT_BYTES).await
}

/// Drops the oldest entries until `excess` bytes are gone.
async fn cut(
    writing: &mut SqliteConnection,
    app: &str,
    number: i64,
    mut excess: i64,
) -> Result<(), StoreError> {
    while excess > 0 {
        // A batch at a time: lines are short, and few are dropped at once.
        let rows = sqlx::query(
            "DELETE FROM deployment_log_lines WHERE app = $1 AND number = $2 AND seq IN
               (SELECT seq FROM deployment_log_lines WHERE app = $1 AND number = $2
                ORDER BY seq LIMIT 16)
             RETURNING data",
        )
        .bind(app)
        .bind(number)
        .fetch_all(&mut *writing)
        .await?;
        let mut dropped = 0;
        for row in &rows {
            dropped += row.try_get::<&str, _>("data")?.len() as i64;
        }
        if dropped == 0 {
            return Ok(());
        }
        sqlx::query("UPDATE deployment_logs SET bytes = bytes - $1 WHERE app = $2 AND number = $3")
            .bind(dropped)
            .bind(app)
            .bind(number)
            .execute(&mut *writing)
            .await?;
        excess -= dropped;
    }
    Ok(())
}

/// Removes an app's logs up to a deployment.
async fn forget_others(
    writing: &mut SqliteConnection,
    app: &str,
    up_to: i64,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM deployment_logs WHERE app = $1 AND number <= $2",
        "DELETE FROM deployment_log_lines WHERE app = $1 AND number <= $2",
        "DELETE FROM deployment_log_sources WHERE app = $1 AND number <= $2",
    ] {
        sqlx::query(statement).bind(app).bind(up_to).execute(&mut *writing).await?;
    }
    Ok(())
}

impl LogEntry {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            seq: unsigned(row.try_get("seq")?),
            what: row.try_get("type")?,
            data: row.try_get("data")?,
        })
    }
}
