//! One transaction for all that is written at the same time, so that the disk is waited for once.
//!
//! Writers stand in line. The first of them begins a transaction and has a task stand in line that
//! commits it: whoever was in line before that task shares it. Each one's work is behind a
//! savepoint, so that what fails, or is given up half done, is taken back alone. Nobody gets an
//! answer before the commit.

use std::sync::Arc;

use sqlx::{
    AssertSqlSafe, Connection, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::sync::{Mutex, oneshot};

use super::StoreError;
use crate::failpoint;

/// Who writes; clones share the line.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// One connection: SQLite has one writer.
    pool: SqlitePool,
    /// What waits to be committed. Its lock is the line, which is fair.
    group: Arc<Mutex<Option<Group>>>,
}

/// Several writes in one transaction.
#[derive(Debug)]
struct Group {
    transaction: Transaction<'static, Sqlite>,
    /// Whether something is after the last savepoint that is not to stay.
    is_half_done: bool,
    /// Why none of it can be committed any more.
    lost: Option<StoreError>,
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Writer {
    /// # Errors
    /// When the database cannot be opened.
    pub(super) async fn connect(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        // What is kept for taking back a write is not worth a file.
        let options = options.pragma("temp_store", "memory");
        // After a transaction that SQLite ended by itself, as when the disk is full, the driver is
        // wrong about it, so that its connection cannot be used again.
        let one = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
        let one = one.after_release(|connection, _| {
            let is_over = !connection.is_in_transaction();
            Box::pin(async move { Ok(is_over) })
        });
        Ok(Self { pool: one.connect_with(options).await?, group: Arc::default() })
    }

    /// The connection, for what is done while nobody writes yet.
    pub(super) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Does some work: all of it is committed, or nothing of it stays.
    pub(super) async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (value, committed) = {
            let mut group = self.group.lock().await;
            let group = match &mut *group {
                Some(group) => group,
                None => {
                    let begun = Group::begin(&self.pool).await?;
                    tokio::spawn(self.clone().commit());
                    group.insert(begun)
                }
            };
            group.add(work).await?
        };
        // The task that commits ends without a word only with the process.
        committed.await.unwrap_or(Err(StoreError::Closed))?;
        Ok(value)
    }

    /// Commits, when its turn comes, what those before it have written.
    async fn commit(self) {
        let mut line = self.group.lock().await;
        if let Some(group) = line.take() {
            group.commit().await;
        }
    }

    /// Ends every use of the connection: what is under way is committed first.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

impl Group {
    async fn begin(pool: &SqlitePool) -> Result<Self, StoreError> {
        let transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Self { transaction, is_half_done: false, lost: None, waiting: Vec::new() })
    }

    /// Does one's work after that of the others. What it comes to is told when it is committed.
    async fn add<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<(T, oneshot::Receiver<Result<(), StoreError>>), StoreError> {
        self.take_back().await?;
        self.run("SAVEPOINT one").await?;
        self.is_half_done = true;
        let done = work(&mut self.transaction).await;
        match done {
            Ok(value) => {
                // It is whole: whoever gives it up from here on does so too late.
                self.is_half_done = false;
                self.run("RELEASE SAVEPOINT one").await?;
                let (tell, told) = oneshot::channel();
                self.waiting.push(tell);
                Ok((value, told))
            }
            Err(error) => {
                if self.take_back().await.is_err() {
                    self.lost = Some(error.again());
                }
                Err(error)
            }
        }
    }

    /// Takes back what somebody has left half done.
    async fn take_back(&mut self) -> Result<(), StoreError> {
        if let Some(lost) = &self.lost {
            return Err(lost.again());
        }
        if self.is_half_done {
            self.run("ROLLBACK TO SAVEPOINT one").await?;
            self.is_half_done = false;
        }
        Ok(())
    }

    /// Tells everybody whether their work is written.
    async fn commit(mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let committed = self.try_commit().await;
        for waiting in waiting {
            let told = committed.as_ref().map_or_else(|error| Err(error.again()), |()| Ok(()));
            // Who does not listen any more has given up waiting.
            let _ = waiting.send(told);
        }
    }

    async fn try_commit(mut self) -> Result<(), StoreError> {
        self.take_back().await?;
        failpoint::pass("before", "commit");
        self.transaction.commit().await?;
        failpoint::pass("after", "commit");
        Ok(())
    }

    /// Not by the driver's own savepoints: one that is given up while it is made has it roll back
    /// all of the transaction.
    async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *self.transaction).await?;
        Ok(())
    }
}
