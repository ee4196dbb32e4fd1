//! Who is told of incidents. What is secret of them is sealed, apart from what is shown.

use std::collections::BTreeMap;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{Hostname, NotifierName, NotifierSpec, Problems};

use super::{
    Kind, StoreError, Verb,
    objects::{Object, Record},
};
use crate::seal::{Keyring, SealError, Sealed};

/// The most of them.
const MAX_NOTIFIERS: i64 = 50;

/// Somebody who is told: all that is written, sealed. Its spec is what may be shown of that.
#[derive(Clone, Debug)]
pub(crate) struct Notifier {
    pub(crate) name: NotifierName,
    pub(crate) sealed: Sealed,
    pub(crate) has_secret: bool,
}

/// What is stored of one beside its spec.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SealedNotifier {
    pub(crate) sealed: Sealed,
    pub(crate) has_secret: bool,
    /// Messages that are not delivered yet.
    pub(crate) queued: i64,
    /// Of the last try to deliver one of those.
    pub(crate) last_error: Option<String>,
}

impl Notifier {
    pub(crate) fn new(
        name: &NotifierName,
        spec: &NotifierSpec,
        keyring: &Keyring,
    ) -> Result<Self, StoreError> {
        let text = serde_json::to_vec(spec).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let sealed = keyring.seal(&place(name), &text)?;
        Ok(Self { name: name.clone(), sealed, has_secret: spec.secret.is_some() })
    }

    /// All that was written of one.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`]; [`SealError::Broken`] for what was not sealed for this one.
    pub(crate) fn open(
        name: &str,
        sealed: &Sealed,
        keyring: &Keyring,
    ) -> Result<NotifierSpec, SealError> {
        let text = keyring.open(&place(name), sealed)?;
        serde_json::from_slice(&text).map_err(|_| SealError::Broken)
    }
}

fn place(name: &str) -> [&str; 2] {
    ["notifier", name]
}

impl Object for Notifier {
    const KIND: Kind = Kind::Notifier;

    type Name = NotifierName;
    type Spec = NotifierSpec;
    type Extra = SealedNotifier;
    type Extras = BTreeMap<String, SealedNotifier>;
    /// The loop has nothing to do with it.
    type Meant = ();

    fn name(&self) -> &NotifierName {
        &self.name
    }

    async fn read_extras(
        connection: &mut SqliteConnection,
        name: Option<&NotifierName>,
    ) -> Result<Self::Extras, StoreError> {
        let rows = sqlx::query(
            "SELECT name, key_id, sealed, has_secret,
                (SELECT COUNT(*) FROM outbox WHERE notifier = name) AS queued,
                (SELECT MAX(last_error) FROM outbox WHERE notifier = name) AS last_error
             FROM notifiers WHERE $1 IS NULL OR name = $1",
        );
        let rows = rows.bind(name.map(|name| &**name)).fetch_all(connection).await?;
        let of = |row: &SqliteRow| Ok((row.try_get("name")?, SealedNotifier::of(row)?));
        rows.iter().map(of).collect()
    }

    fn extra(
        extras: &mut Self::Extras,
        name: &NotifierName,
        _: &NotifierSpec,
    ) -> Result<SealedNotifier, StoreError> {
        let missing = || StoreError::Corrupt(format!("Notifier/{name}: its URL is missing"));
        extras.remove(&**name).ok_or_else(missing)
    }

    fn is_extra_of(&self, former: &Record<Self>) -> bool {
        self.sealed == former.extra.sealed
    }

    fn meant(_: &Record<Self>, _: &Hostname) -> Result<(), Problems> {
        Ok(())
    }

    async fn write_extra(
        &self,
        writing: &mut SqliteConnection,
        _: Option<&Record<Self>>,
        _: Verb,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO notifiers (name, key_id, sealed, has_secret) VALUES ($1, $2, $3, $4)
             ON CONFLICT (name) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed,
                has_secret = excluded.has_secret",
        )
        .bind(&*self.name)
        .bind(&self.sealed.key)
        .bind(&self.sealed.text)
        .bind(i64::from(self.has_secret))
        .execute(&mut *writing)
        .await?;
        let all = sqlx::query("SELECT COUNT(*) AS count FROM notifiers").fetch_one(writing).await?;
        match all.try_get::<i64, _>("count")? {
            ..=MAX_NOTIFIERS => Ok(()),
            _ => Err(StoreError::TooManyNotifiers { most: MAX_NOTIFIERS }),
        }
    }

    /// And what is on its way to it.
    async fn delete_extra(
        writing: &mut SqliteConnection,
        name: &NotifierName,
    ) -> Result<(), StoreError> {
        for statement in
            ["DELETE FROM notifiers WHERE name = $1", "DELETE FROM outbox WHERE notifier = $1"]
        {
            sqlx::query(statement).bind(&**name).execute(&mut *writing).await?;
        }
        Ok(())
    }
}

impl SealedNotifier {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            sealed: Sealed { key: row.try_get("key_id")?, text: row.try_get("sealed")? },
            has_secret: row.try_get::<i64, _>("has_secret")? != 0,
            queued: row.try_get("queued")?,
            last_error: row.try_get("last_error")?,
        })
    }
}
