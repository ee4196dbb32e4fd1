//! What objects of every kind have in common: how they are read, written and deleted.

use std::{fmt, future::ready, ops::Deref, str::FromStr};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{Hostname, Problems};

use super::{
    Cause, Operation, Page, Precondition, Store, StoreError, Target, Verb, next_revision,
    operations::{Change, begin},
    record_change, revision, signed, to_json, unsigned,
};
use crate::redact::redacted;

/// A kind of objects that operators write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    App,
    Shard,
    Host,
    Zone,
    Provider,
    FailoverPolicy,
    Issuer,
    Notifier,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::App,
        Self::Shard,
        Self::Host,
        Self::Zone,
        Self::Provider,
        Self::FailoverPolicy,
        Self::Issuer,
        Self::Notifier,
    ];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// As it is written, and in the column `kind`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::App => "App",
            Self::Shard => "Shard",
            Self::Host => "Host",
            Self::Zone => "Zone",
            Self::Issuer => "Issuer",
            Self::Provider => "Provider",
            Self::FailoverPolicy => "FailoverPolicy",
            Self::Notifier => "Notifier",
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
            Self::Zone => "zone",
            Self::Issuer => "issuer",
            Self::Provider => "provider",
            Self::FailoverPolicy => "failover policy",
            Self::Notifier => "notifier",
        })
    }
}

/// An object of some kind, checked: what the kind has of its own. All else is the same for all.
pub(crate) trait Object: Sized + Sync {
    const KIND: Kind;

    type Name: FromStr<Err = String> + Deref<Target = str> + Clone + fmt::Debug + Send + Sync;
    type Spec: Serialize + DeserializeOwned + PartialEq + Clone + fmt::Debug + Send + Sync;
    /// What is stored of it beside its spec.
    type Extra: PartialEq + Clone + fmt::Debug + Send + Sync;
    /// That of all objects that are read together, until each has its own.
    type Extras: Default + Send;
    /// As the loop takes it.
    type Meant;

    fn name(&self) -> &Self::Name;

    /// Reads what other tables hold of one, or of all.
    fn read_extras(
        _connection: &mut SqliteConnection,
        _name: Option<&Self::Name>,
    ) -> impl Future<Output = Result<Self::Extras, StoreError>> + Send {
        ready(Ok(Self::Extras::default()))
    }

    /// Takes one's own out of them.
    fn extra(
        extras: &mut Self::Extras,
        name: &Self::Name,
        spec: &Self::Spec,
    ) -> Result<Self::Extra, StoreError>;

    /// The number of the deployment that is meant, if there is one.
    fn deployment(_: &Self::Extra) -> Option<u64> {
        None
    }

    /// Whether what other tables hold of it is as it is written already.
    fn is_extra_of(&self, _former: &Record<Self>) -> bool {
        true
    }

    /// # Errors
    /// When it is valid no longer, as after a step back to an older Weir.
    fn meant(record: &Record<Self>, base_domain: &Hostname) -> Result<Self::Meant, Problems>;

    /// Writes what other tables hold of it.
    fn write_extra(
        &self,
        _connection: &mut SqliteConnection,
        _former: Option<&Record<Self>>,
        _verb: Verb,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        ready(Ok(()))
    }

    /// Deletes what other tables hold of one.
    ///
    /// # Errors
    /// When others need it.
    fn delete_extra(
        connection: &mut SqliteConnection,
        name: &Self::Name,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// An object as it is stored.
#[derive(Debug)]
pub(crate) struct Record<O: Object> {
    pub(crate) name: O::Name,
    pub(crate) spec: O::Spec,
    pub(crate) meta: Meta,
    pub(crate) extra: O::Extra,
}

impl<O: Object> Clone for Record<O> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            spec: self.spec.clone(),
            meta: self.meta.clone(),
            extra: self.extra.clone(),
        }
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

/// What a write came to.
#[derive(Debug)]
pub(crate) struct Written<O: Object> {
    pub(crate) record: Record<O>,
    pub(crate) created: bool,
    /// `None` when everything was as written already: then no revision was taken.
    pub(crate) operation: Option<Operation>,
}

impl Store {
    pub(crate) async fn find<O: Object>(
        &self,
        name: &O::Name,
    ) -> Result<Option<Record<O>>, StoreError> {
        select(&mut *self.readers.acquire().await?, name).await
    }

    /// As [`Self::find`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none.
    pub(crate) async fn read<O: Object>(&self, name: &O::Name) -> Result<Record<O>, StoreError> {
        self.find(name).await?.ok_or_else(|| StoreError::not_found(O::KIND, name))
    }

    /// Those of a kind, by name, and the revision as of which that is.
    pub(crate) async fn list<O: Object>(
        &self,
        page: &Page<String>,
    ) -> Result<(Vec<Record<O>>, u64), StoreError> {
        let mut reading = self.readers.begin().await?;
        let revision = revision(&mut reading).await?;
        let (rows, mut extras) = select_page::<O>(&mut reading, page).await?;
        // One that cannot be read is no reason not to see the others.
        let records = rows.iter().filter_map(|row| Record::of(row, &mut extras).ok());
        Ok((records.collect(), revision))
    }

    /// One as the loop takes it.
    pub(crate) async fn meant<O: Object>(
        &self,
        name: &O::Name,
    ) -> Result<Option<O::Meant>, StoreError> {
        self.find::<O>(name).await?.map(|record| record.meant(&self.base_domain)).transpose()
    }

    /// Makes an object, or makes it what is written.
    ///
    /// # Errors
    /// Those of the precondition, of the kind ([`StoreError::HostnameTaken`],
    /// [`StoreError::NoSuchShard`]), and of the database; nothing is changed.
    pub(crate) async fn put<O: Object>(
        &self,
        spec: &O::Spec,
        object: &O,
        precondition: Precondition,
        cause: Cause<'_>,
    ) -> Result<Written<O>, StoreError> {
        let written = self
            .write(async |writing| put(writing, spec, object, precondition, cause).await)
            .await?;
        self.committed(written.record.meta.revision);
        Ok(written)
    }

    /// Removes an object. What runs of it goes when the loop has drained it.
    ///
    /// # Errors
    /// Those of the precondition, of the kind ([`StoreError::ShardInUse`]), and of the database;
    /// nothing is changed.
    pub(crate) async fn delete<O: Object>(
        &self,
        name: &O::Name,
        precondition: Precondition,
        cause: Cause<'_>,
    ) -> Result<Operation, StoreError> {
        let deleted =
            self.write(async |writing| delete::<O>(writing, name, precondition, cause).await);
        let (revision, operation) = deleted.await?;
        self.committed(revision);
        Ok(operation)
    }
}

/// See [`Store::delete`]; also returns the revision that it took.
pub(super) async fn delete<O: Object>(
    writing: &mut SqliteConnection,
    name: &O::Name,
    precondition: Precondition,
    cause: Cause<'_>,
) -> Result<(u64, Operation), StoreError> {
    // Also one that this Weir cannot read any more.
    let former = select_row::<O>(writing, name).await?;
    let meta = former.as_ref().map(Meta::of).transpose()?;
    precondition.check(meta.as_ref(), O::KIND, name)?;
    let (Some(former), Some(meta)) = (former, meta) else {
        return Err(StoreError::not_found(O::KIND, name));
    };
    let revision = next_revision(writing).await?;
    sqlx::query("DELETE FROM objects WHERE kind = $1 AND name = $2")
        .bind(O::KIND.as_str())
        .bind(&**name)
        .execute(&mut *writing)
        .await?;
    O::delete_extra(writing, name).await?;
    record_change(writing, revision, O::KIND, name).await?;
    let target = Target {
        kind: O::KIND.as_str().to_owned(),
        name: name.to_string(),
        generation: meta.generation,
        deployment: None,
    };
    let before = from_json::<Value>(&former, "spec").ok().and_then(|s| redacted(&s));
    let change = Change { target, revision: Some(revision), before, after: None };
    Ok((revision, begin(writing, cause, change).await?))
}

/// See [`Store::put`].
pub(super) async fn put<O: Object>(
    writing: &mut SqliteConnection,
    spec: &O::Spec,
    object: &O,
    precondition: Precondition,
    cause: Cause<'_>,
) -> Result<Written<O>, StoreError> {
    let name = object.name();
    let former = select::<O>(writing, name).await?;
    precondition.check(former.as_ref().map(|f| &f.meta), O::KIND, name)?;
    if let Some(former) = &former
        && former.spec == *spec
        && object.is_extra_of(former)
        && cause.verb == Verb::Put
    {
        return Ok(Written { record: former.clone(), created: false, operation: None });
    }
    let revision = next_revision(writing).await?;
    upsert(writing, O::KIND, name, spec, revision).await?;
    object.write_extra(writing, former.as_ref(), cause.verb).await?;
    record_change(writing, revision, O::KIND, name).await?;
    let stored = select(writing, name).await?;
    let stored = stored.ok_or_else(|| StoreError::not_found(O::KIND, name))?;
    let change = Change {
        target: stored.target(),
        revision: Some(revision),
        before: former.as_ref().and_then(|former| redacted(&former.spec)),
        after: redacted(spec),
    };
    let operation = Some(begin(writing, cause, change).await?);
    Ok(Written { record: stored, created: former.is_none(), operation })
}

impl<O: Object> Record<O> {
    pub(super) fn of(row: &SqliteRow, extras: &mut O::Extras) -> Result<Self, StoreError> {
        let (name, spec) = (super::parse_name(row)?, from_json(row, "spec")?);
        let extra = O::extra(extras, &name, &spec)?;
        Ok(Self { name, spec, meta: Meta::of(row)?, extra })
    }

    /// It, as it is now, as what an operation is about.
    pub(crate) fn target(&self) -> Target {
        Target {
            kind: O::KIND.as_str().to_owned(),
            name: self.name.to_string(),
            generation: self.meta.generation,
            deployment: O::deployment(&self.extra),
        }
    }

    pub(super) fn meant(&self, base_domain: &Hostname) -> Result<O::Meant, StoreError> {
        O::meant(self, base_domain).map_err(|problems| {
            StoreError::Corrupt(format!("{}/{}: {problems}", O::KIND.as_str(), &*self.name))
        })
    }
}

impl Meta {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            generation: unsigned(row.try_get("generation")?),
            revision: unsigned(row.try_get("revision")?),
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

const SELECT: &str = "SELECT name, spec, generation, revision, created_at, updated_at
    FROM objects WHERE kind = $1";

/// The rows of objects of a kind, by name, and what other tables hold of them.
pub(super) async fn select_page<O: Object>(
    connection: &mut SqliteConnection,
    page: &Page<String>,
) -> Result<(Vec<SqliteRow>, O::Extras), StoreError> {
    let select = format!("{SELECT} AND name > $2 ORDER BY name LIMIT $3");
    let after = page.after.as_deref().unwrap_or_default();
    let rows = sqlx::query(AssertSqlSafe(select)).bind(O::KIND.as_str()).bind(after);
    let rows = rows.bind(page.limit()).fetch_all(&mut *connection).await?;
    Ok((rows, O::read_extras(connection, None).await?))
}

pub(super) async fn select<O: Object>(
    connection: &mut SqliteConnection,
    name: &O::Name,
) -> Result<Option<Record<O>>, StoreError> {
    let Some(row) = select_row::<O>(connection, name).await? else { return Ok(None) };
    Record::of(&row, &mut O::read_extras(connection, Some(name)).await?).map(Some)
}

async fn select_row<O: Object>(
    connection: &mut SqliteConnection,
    name: &O::Name,
) -> Result<Option<SqliteRow>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(format!("{SELECT} AND name = $2")));
    Ok(row.bind(O::KIND.as_str()).bind(&**name).fetch_optional(connection).await?)
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

pub(super) fn from_json<T: DeserializeOwned>(
    row: &SqliteRow,
    column: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get(column)?)
        .map_err(|error| StoreError::Corrupt(error.to_string()))
}
