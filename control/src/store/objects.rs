//! What objects of every kind have in common.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{StoreError, signed, unsigned};

/// A kind of objects that operators write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    App,
    Shard,
    Host,
}

impl Kind {
    /// As it is written, and in the column `kind`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::App => "App",
            Self::Shard => "Shard",
            Self::Host => "Host",
        }
    }
}

impl fmt::Display for Kind {
    /// As in a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::App => "app",
            Self::Shard => "shard",
            Self::Host => "host",
        })
    }
}

/// What the store notes of an object beside what is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meta {
    /// Grows by one with every change of the spec.
    pub(crate) generation: u64,
    /// Of the store, when it was last changed.
    pub(crate) revision: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

impl Meta {
    pub(super) fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            generation: unsigned(row.try_get("generation")?),
            revision: unsigned(row.try_get("revision")?),
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// What must hold for a write to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Precondition {
    #[default]
    None,
    /// The object must not exist.
    New,
    /// The object must be at this revision.
    Revision(u64),
}

impl Precondition {
    pub(super) fn check(
        self,
        former: Option<&Meta>,
        kind: Kind,
        name: &str,
    ) -> Result<(), StoreError> {
        match (self, former) {
            (Self::New, Some(_)) => Err(StoreError::NameTaken { kind, name: name.to_owned() }),
            (Self::Revision(_), None) => Err(StoreError::not_found(kind, name)),
            (Self::Revision(expected), Some(former)) if former.revision != expected => {
                Err(StoreError::Conflict { kind, found: former.revision, expected })
            }
            _ => Ok(()),
        }
    }
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written<R> {
    pub(crate) record: R,
    pub(crate) created: bool,
    /// False when everything was as written already: then no revision was taken.
    pub(crate) changed: bool,
}

pub(super) async fn upsert(
    connection: &mut SqliteConnection,
    kind: Kind,
    name: &str,
    spec: &impl Serialize,
    revision: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO objects (kind, name, generation, revision, spec, created_at, updated_at)
         VALUES ($1, $2, 1, $3, $4, $5, $5)
         ON CONFLICT (kind, name) DO UPDATE SET generation = objects.generation + 1,
            revision = excluded.revision, spec = excluded.spec, updated_at = excluded.updated_at",
    )
    .bind(kind.as_str())
    .bind(name)
    .bind(signed(revision))
    .bind(to_json(spec)?)
    .bind(crate::time::unix_millis())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    kind: Kind,
    name: &str,
) -> Result<(), StoreError> {
    let deleted = sqlx::query("DELETE FROM objects WHERE kind = $1 AND name = $2")
        .bind(kind.as_str())
        .bind(name)
        .execute(connection)
        .await?;
    match deleted.rows_affected() {
        0 => Err(StoreError::not_found(kind, name)),
        _ => Ok(()),
    }
}

pub(super) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) fn from_json<T: DeserializeOwned>(
    row: &SqliteRow,
    column: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get(column)?)
        .map_err(|error| StoreError::Corrupt(error.to_string()))
}
