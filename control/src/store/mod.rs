//! What must survive: the objects that operators write, deployments, host names, tokens, how far
//! failover is, and what happened: who asked for what, and what came of it.
//!
//! One writer, WAL, full sync: an acknowledged write survives `kill -9` and power loss. Every write
//! takes the next revision in the transaction that it is part of, so revisions only grow and have no
//! gap. The SQL is the common part of SQLite and PostgreSQL.

mod acme;
mod apps;
mod cause;
mod certificates;
mod deployment_logs;
mod deployments;
mod desired;
mod devices;
mod domains;
mod error;
mod events;
mod failover;
mod failover_actions;
mod failover_incidents;
mod follow;
mod hosts;
mod idempotency;
#[cfg(test)]
mod incident_tests;
mod incidents;
mod issuers;
mod notifiers;
mod objects;
mod operations;
mod outbox;
mod page;
mod providers;
mod prune;
mod record_path;
mod records;
mod rolling_updates;
mod secrets;
mod shards;
#[cfg(test)]
mod tests;
mod tokens;
mod writer;
mod zones;

use std::{
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{
    Connection, Row, SqliteConnection, SqlitePool,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};
use tokio::sync::watch;
use weir_config::Hostname;

use self::writer::Writer;

pub(crate) use cause::{Cause, Precondition, Verb};
pub(crate) use certificates::{NewCertificate, StoredCertificate};
pub(crate) use deployment_logs::{DeploymentId, KnownLog, LogEntry, Note};
pub(crate) use deployments::DeploymentRecord;
pub(crate) use desired::Changed;
pub(crate) use devices::{Claim, DeviceRecord, Invite, NoClaim};
pub use error::StoreError;
pub(crate) use events::{EventFilter, NewEvent, StoredEvent};
pub(crate) use failover::SavedFailover;
pub(crate) use failover_actions::DueAction;
pub(crate) use follow::Place;
pub(crate) use idempotency::{KeptAnswer, Known, Repeatable};
pub(crate) use incidents::{IncidentAction, IncidentEvent, IncidentQuery, IncidentRecord};
pub(crate) use issuers::Issuer;
pub(crate) use notifiers::{Notifier, SealedNotifier};
pub(crate) use objects::{Kind, Object, Record, Written};
pub(crate) use operations::{Operation, OperationFilter, OperationState, Outcome, Target};
pub(crate) use outbox::{Message, body};
pub(crate) use page::Page;
pub(crate) use providers::Provider;
pub(crate) use records::{Holds, RecordChange};
pub(crate) use rolling_updates::{RollingUpdate, RollingUpdateSpec, UpdatedApp};
pub(crate) use secrets::{SealedSecret, SecretRecord, WrittenSecrets};
pub(crate) use tokens::Token;
pub(crate) use zones::{ReadZone, Touched};

/// A handle to the database; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    readers: SqlitePool,
    writer: Writer,
    cluster_id: String,
    base_domain: Hostname,
    /// The last committed revision, for those who follow the changes.
    revision: watch::Sender<u64>,
    /// Whether the last write found no space.
    is_full: Arc<AtomicBool>,
    /// Tells that operations have begun or been settled.
    operations: watch::Sender<()>,
    /// Tells that something has been noted.
    noted: watch::Sender<()>,
}

/// How many changes are kept for those who follow them; who falls behind reads everything anew.
const CHANGES_KEPT: i64 = 100_000;

impl Store {
    /// Opens the database in a file, made and migrated as needed.
    ///
    /// # Errors
    /// When the file cannot be opened or written, or is of a newer Weir.
    pub(crate) async fn open(file: &Path, base_domain: &Hostname) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let writer = Writer::connect(options.clone()).await?;
        sqlx::migrate!().run(writer.pool()).await?;
        // A file does not go away as a server does.
        let readers = SqlitePoolOptions::new().max_connections(4).test_before_acquire(false);
        let readers = readers.connect_with(options.read_only(true)).await?;

        let new_id = crate::random::hex(8);
        sqlx::query(
            "INSERT INTO cluster (one, cluster_id, base_domain, rev) VALUES (1, $1, $2, 0)
             ON CONFLICT (one) DO NOTHING",
        )
        .bind(&new_id)
        .bind(&**base_domain)
        .execute(writer.pool())
        .await?;
        let row = sqlx::query("SELECT cluster_id, base_domain, rev FROM cluster WHERE one = 1")
            .fetch_one(writer.pool())
            .await?;
        let store = Self {
            readers,
            writer,
            cluster_id: row.try_get("cluster_id")?,
            base_domain: base_domain.clone(),
            revision: watch::Sender::new(unsigned(row.try_get("rev")?)),
            is_full: Arc::default(),
            operations: watch::Sender::new(()),
            noted: watch::Sender::new(()),
        };
        store.forget_unanswered().await?;
        store.renew_serials().await?;
        if row.try_get::<String, _>("base_domain")? != **base_domain {
            store.rename_base_domain().await?;
        }
        Ok(store)
    }

    /// Copies the database in a file, as it is at this moment, to one that is not there yet.
    ///
    /// # Errors
    /// When any of it cannot be read, or the copy not be written.
    pub(crate) async fn copy(file: &Path, copy: &Path) -> Result<(), StoreError> {
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let copied = sqlx::query("VACUUM INTO $1").bind(copy.to_string_lossy().into_owned());
        copied.execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Ends every use of the database, by all clones: what is under way is finished first.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// What marks the containers of this Weir.
    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Whether the last write found no space.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Relaxed)
    }

    /// Follows the last committed revision.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Follows that operations have begun or been settled.
    pub(crate) fn operations_changed(&self) -> watch::Receiver<()> {
        self.operations.subscribe()
    }

    /// Follows that something has been noted: events, or entries of deployments' logs.
    pub(crate) fn noted(&self) -> watch::Receiver<()> {
        self.noted.subscribe()
    }

    /// Does some work in a transaction, which others may share: all of it or nothing.
    async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = self.writer.write(work).await;
        match &result {
            Ok(_) => self.is_full.store(false, Relaxed),
            Err(StoreError::Full) => self.is_full.store(true, Relaxed),
            Err(_) => {}
        }
        result
    }

    /// Tells the followers of a commit.
    fn committed(&self, revision: u64) {
        self.revision.send_if_modified(|last| {
            let newer = revision > *last;
            *last = revision.max(*last);
            newer
        });
        self.operations_are_new();
    }

    /// Tells the followers of operations that they are not as they were.
    fn operations_are_new(&self) {
        self.operations.send_replace(());
    }
}

/// Takes the next revision: the first statement of every write.
async fn next_revision(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let row = sqlx::query("UPDATE cluster SET rev = rev + 1 WHERE one = 1 RETURNING rev")
        .fetch_one(connection)
        .await?;
    Ok(unsigned(row.try_get("rev")?))
}

/// The last committed one, as of this transaction.
async fn revision(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT rev FROM cluster WHERE one = 1").fetch_one(connection).await?;
    Ok(unsigned(row.try_get("rev")?))
}

/// Notes what a write changed, for those who follow the changes.
async fn record_change(
    connection: &mut SqliteConnection,
    revision: u64,
    kind: Kind,
    name: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO changes (rev, kind, name, at) VALUES ($1, $2, $3, $4)")
        .bind(signed(revision))
        .bind(kind.as_str())
        .bind(name)
        .bind(crate::time::unix_millis())
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM changes WHERE rev <= $1")
        .bind(signed(revision) - CHANGES_KEPT)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the next `count` of some numbers that never repeat, and gives the first; `None` if none are
/// wanted.
async fn sequence(
    connection: &mut SqliteConnection,
    name: &str,
    count: usize,
) -> Result<Option<u64>, StoreError> {
    if count == 0 {
        return Ok(None);
    }
    let row = sqlx::query(
        "INSERT INTO counters (name, last) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET last = counters.last + $2 RETURNING last",
    )
    .bind(name)
    .bind(count as i64)
    .fetch_one(connection)
    .await?;
    Ok(Some(unsigned(row.try_get("last")?) + 1 - count as u64))
}

fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn parse_name<T: FromStr<Err = String>>(row: &SqliteRow) -> Result<T, StoreError> {
    row.try_get::<String, _>("name")?.parse().map_err(StoreError::Corrupt)
}

/// SQL has no unsigned integers; revisions and numbers never reach the sign.
fn signed(n: u64) -> i64 {
    n as i64
}

fn unsigned(n: i64) -> u64 {
    n as u64
}
