//! Secrets of apps, sealed: what the next deployment gets, and what kept deployments name.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{App, AppName, Secret, SecretName, Template, ZoneName, ZoneSpec};
use zeroize::Zeroizing;

use super::{
    Cause, Kind, Object, Operation, Record, Store, StoreError, Target, Verb, next_revision,
    objects::{from_json, select, upsert},
    operations::{Change, begin, note_done},
    parse_name, record_change, signed, to_json, unsigned,
};
use crate::{
    key_file::KeyFile,
    seal::{Keyring, SealError, Sealed},
    vault::reseal_zone,
};

/// The most secrets of one app.
const MAX_SECRETS: usize = 100;

/// What may be known of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretRecord {
    pub(crate) name: SecretName,
    /// The revision that wrote the value.
    pub(crate) version: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) written_at: i64,
}

/// A value that is kept: of which app, under which name and version.
#[derive(Clone, Debug)]
pub(crate) struct SealedSecret {
    app: AppName,
    pub(crate) name: SecretName,
    pub(crate) version: u64,
    sealed: Sealed,
}

/// What a write of secrets came to.
#[derive(Debug)]
pub(crate) struct WrittenSecrets {
    /// The app as it is then, if it exists.
    pub(crate) app: Option<Record<App>>,
    pub(crate) secrets: Vec<SecretRecord>,
}

/// What sealing everything anew came to.
#[derive(Debug, Default)]
pub(crate) struct Resealed {
    pub(crate) count: u64,
    /// Those that could not be opened, as `app/NAME` or `Notifier/name`, and are left as they are.
    pub(crate) unreadable: BTreeSet<String>,
    /// Their keys.
    pub(crate) former_keys: BTreeSet<String>,
    /// That it was, if anybody asked for it.
    pub(crate) operation: Option<Operation>,
}

const SELECT_SEALED: &str = "SELECT app, name, version, key_id, sealed FROM secrets";

impl Store {
    /// Those that the next deployment of an app gets, by name.
    pub(crate) async fn secrets(&self, app: &AppName) -> Result<Vec<SecretRecord>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        live(&mut reader, app).await
    }

    /// Sets (`Some`) and removes secrets of an app, in one deployment. What is set to the value
    /// that it has already is no change.
    ///
    /// # Errors
    /// [`StoreError::SecretIsVariable`], [`StoreError::TooManySecrets`], [`StoreError::NoImage`],
    /// [`StoreError::NoKey`] and those of the database; nothing is changed.
    pub(crate) async fn write_secrets(
        &self,
        app: &AppName,
        changes: &BTreeMap<SecretName, Option<Secret>>,
        keys: &KeyFile,
        actor: &str,
    ) -> Result<WrittenSecrets, StoreError> {
        let written = self.write(async |writing| {
            let former = select::<App>(writing, app).await?;
            // Inside the transaction: nothing is sealed with a former key once a rotation has
            // begun to seal everything anew.
            let keyring = keys.keys()?;
            let changes = effective(writing, app, changes, &keyring).await?;
            if changes.is_empty() {
                let secrets = live(writing, app).await?;
                return Ok((None, WrittenSecrets { app: former, secrets }));
            }
            let is_set = changes.iter().any(|(_, value)| value.is_some());
            if is_set && former.as_ref().is_some_and(|app| app.spec.image.is_none()) {
                return Err(StoreError::NoImage(app.clone()));
            }
            let revision = next_revision(writing).await?;
            for (name, value) in &changes {
                let sealed = value.map(|value| seal(&keyring, app, name, revision, value));
                replace(writing, app, name, revision, sealed.transpose()?.as_ref()).await?;
            }
            let secrets = live(writing, app).await?;
            if secrets.len() > MAX_SECRETS {
                return Err(StoreError::TooManySecrets { most: MAX_SECRETS });
            }
            if let Some(former) = &former {
                upsert(writing, Kind::App, app, &former.spec, revision).await?;
                let meant = former.meant(&self.base_domain)?.app;
                meant.write_extra(writing, Some(former), Verb::Secrets).await?;
            }
            prune(writing, app).await?;
            record_change(writing, revision, Kind::App, app).await?;
            let stored = select(writing, app).await?;
            if let Some(stored) = &stored {
                // Which ones were changed is in the table; what they are is nowhere.
                let target = stored.target();
                let change = Change { target, revision: Some(revision), before: None, after: None };
                begin(writing, Cause { actor, verb: Verb::Secrets, key: None }, change).await?;
            }
            let written = WrittenSecrets { app: stored, secrets };
            Ok((Some(revision), written))
        });
        let (revision, written) = written.await?;
        if let Some(revision) = revision {
            self.committed(revision);
        }
        Ok(written)
    }

    /// Every value of an app that is kept, sealed.
    pub(crate) async fn sealed_secrets(
        &self,
        app: &AppName,
    ) -> Result<Vec<SealedSecret>, StoreError> {
        let select = format!("{SELECT_SEALED} WHERE app = $1");
        let rows = sqlx::query(sqlx::AssertSqlSafe(select)).bind(&**app);
        rows.fetch_all(&self.readers).await?.iter().map(SealedSecret::of).collect()
    }

    /// Whether anything is sealed, with any key.
    pub(crate) async fn has_sealed(&self) -> Result<bool, StoreError> {
        for (table, ..) in Self::SEALED {
            let select = format!("SELECT 1 FROM {table} WHERE key_id IS NOT NULL LIMIT 1");
            let row = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_optional(&self.readers);
            if row.await?.is_some() {
                return Ok(true);
            }
        }
        let any = "SELECT key_id FROM secrets
             UNION ALL SELECT name FROM objects WHERE kind = 'Zone' AND spec LIKE '%\"sealed:%'
             LIMIT 1";
        let row = sqlx::query(any).fetch_optional(&self.readers);
        Ok(row.await?.is_some())
    }

    /// Seals everything with the newest key, in one transaction, and notes that if anybody asked
    /// for it.
    pub(crate) async fn reseal(
        &self,
        keyring: &Keyring,
        cause: Option<Cause<'_>>,
    ) -> Result<Resealed, StoreError> {
        let resealed = self.write(async |writing| {
            let mut resealed = Resealed::default();
            let select = format!("{SELECT_SEALED} WHERE key_id <> $1");
            let rows = sqlx::query(sqlx::AssertSqlSafe(select)).bind(keyring.newest());
            for row in &rows.fetch_all(&mut *writing).await? {
                let secret = SealedSecret::of(row)?;
                let SealedSecret { app, name, version, sealed } = &secret;
                let Ok(value) = secret.open(keyring) else {
                    resealed.unreadable.insert(format!("{app}/{name}"));
                    resealed.former_keys.insert(sealed.key.clone());
                    continue;
                };
                let sealed = seal(keyring, app, name, *version, &value)?;
                sqlx::query(
                    "UPDATE secrets SET key_id = $4, sealed = $5
                     WHERE app = $1 AND name = $2 AND version = $3",
                )
                .bind(&**app)
                .bind(&**name)
                .bind(signed(*version))
                .bind(&sealed.key)
                .bind(&sealed.text)
                .execute(&mut *writing)
                .await?;
                resealed.count += 1;
            }
            for table in Self::SEALED {
                reseal_table(writing, keyring, table, &mut resealed).await?;
            }
            reseal_zones(writing, keyring, &mut resealed).await?;
            if let Some(cause) = cause {
                let (key, count) = (keyring.newest(), resealed.count);
                let message = format!("sealed {count} values anew, with the key {key}");
                let change = Change::none(Target::everything());
                resealed.operation = Some(note_done(writing, cause, change, message).await?);
            }
            Ok(resealed)
        });
        let resealed = resealed.await?;
        self.operations_are_new();
        Ok(resealed)
    }

    /// Tables that hold one sealed value in a row: their key, what the value is sealed as, and what
    /// it is called.
    const SEALED: [SealedTable; 6] = [
        ("notifiers", "name", "notifier", "Notifier"),
        ("providers", "name", "provider", "Provider"),
        ("certificates", "name", "certificate", "Certificate"),
        ("issuer_keys", "issuer", "eab", "Issuer"),
        ("acme_accounts", "issuer", "acme-account", "Account"),
        ("acme_orders", "name", "acme-order", "Order"),
    ];
}

/// Seals the keys of zones' secondaries anew. A spec means the same as before, so that no revision
/// is taken.
async fn reseal_zones(
    writing: &mut SqliteConnection,
    keyring: &Keyring,
    resealed: &mut Resealed,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT name, spec FROM objects WHERE kind = 'Zone' AND spec LIKE '%\"sealed:%'",
    );
    for row in &rows.fetch_all(&mut *writing).await? {
        let (zone, mut spec): (ZoneName, ZoneSpec) = (parse_name(row)?, from_json(row, "spec")?);
        let (count, unreadable) = reseal_zone(keyring, &zone, &mut spec)?;
        for (name, former_key) in unreadable {
            resealed.unreadable.insert(name);
            resealed.former_keys.insert(former_key);
        }
        resealed.count += count;
        sqlx::query("UPDATE objects SET spec = $2 WHERE kind = 'Zone' AND name = $1")
            .bind(&*zone)
            .bind(to_json(&spec)?)
            .execute(&mut *writing)
            .await?;
    }
    Ok(())
}

impl SealedSecret {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let app: String = row.try_get("app")?;
        Ok(Self {
            app: app.parse().map_err(StoreError::Corrupt)?,
            name: parse_name(row)?,
            version: unsigned(row.try_get("version")?),
            sealed: Sealed { key: row.try_get("key_id")?, text: row.try_get("sealed")? },
        })
    }

    pub(crate) fn open(&self, keyring: &Keyring) -> Result<Secret, SealError> {
        let version = self.version.to_string();
        let value = keyring.open(&["secret", &self.app, &self.name, &version], &self.sealed)?;
        let text = str::from_utf8(&value).map_err(|_| SealError::Broken)?;
        Secret::new(Zeroizing::new(text.to_owned())).map_err(|_| SealError::Broken)
    }
}

type SealedTable = (&'static str, &'static str, &'static str, &'static str);

async fn reseal_table(
    writing: &mut SqliteConnection,
    keyring: &Keyring,
    (table, key, of, kind): SealedTable,
    resealed: &mut Resealed,
) -> Result<(), StoreError> {
    let select = format!("SELECT {key} AS name, key_id, sealed FROM {table} WHERE key_id <> $1");
    let rows = sqlx::query(sqlx::AssertSqlSafe(select)).bind(keyring.newest());
    for row in &rows.fetch_all(&mut *writing).await? {
        let name: String = row.try_get("name")?;
        let sealed = Sealed { key: row.try_get("key_id")?, text: row.try_get("sealed")? };
        let Ok(value) = keyring.open(&[of, &name], &sealed) else {
            resealed.unreadable.insert(format!("{kind}/{name}"));
            resealed.former_keys.insert(sealed.key);
            continue;
        };
        let sealed = keyring.seal(&[of, &name], &value)?;
        let update = format!("UPDATE {table} SET key_id = $2, sealed = $3 WHERE {key} = $1");
        sqlx::query(sqlx::AssertSqlSafe(update))
            .bind(&name)
            .bind(&sealed.key)
            .bind(&sealed.text)
            .execute(&mut *writing)
            .await?;
        resealed.count += 1;
    }
    Ok(())
}

fn seal(
    keyring: &Keyring,
    app: &AppName,
    name: &SecretName,
    version: u64,
    value: &Secret,
) -> Result<Sealed, SealError> {
    keyring.seal(&["secret", app, name, &version.to_string()], value.expose().as_bytes())
}

/// A template with the secrets that its app has now.
pub(super) async fn with_secrets(
    connection: &mut SqliteConnection,
    app: &AppName,
    template: &Template,
) -> Result<Template, StoreError> {
    let live = live(connection, app).await?;
    if let Some(both) = live.iter().find(|secret| template.env.contains_key(&*secret.name)) {
        return Err(StoreError::SecretIsVariable(both.name.clone()));
    }
    let secrets = live.into_iter().map(|secret| (secret.name, secret.version)).collect();
    Ok(Template { secrets, ..template.clone() })
}

/// Removes the values that neither the next deployment gets nor any that is kept names.
pub(super) async fn prune(
    connection: &mut SqliteConnection,
    app: &AppName,
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT name, version FROM secrets WHERE app = $1 AND is_live = 0")
        .bind(&**app)
        .fetch_all(&mut *connection)
        .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut named = BTreeSet::new();
    let templates = sqlx::query("SELECT template FROM deployments WHERE app = $1").bind(&**app);
    for row in &templates.fetch_all(&mut *connection).await? {
        named.extend(from_json::<Template>(row, "template")?.secrets);
    }
    for row in &rows {
        let (name, version): (SecretName, i64) = (parse_name(row)?, row.try_get("version")?);
        if named.contains(&(name.clone(), unsigned(version))) {
            continue;
        }
        sqlx::query("DELETE FROM secrets WHERE app = $1 AND name = $2 AND version = $3")
            .bind(&**app)
            .bind(&*name)
            .bind(version)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Those of the changes that change something. A value that cannot be read is replaced by any.
async fn effective<'a>(
    connection: &mut SqliteConnection,
    app: &AppName,
    changes: &'a BTreeMap<SecretName, Option<Secret>>,
    keyring: &Keyring,
) -> Result<Vec<(&'a SecretName, Option<&'a Secret>)>, StoreError> {
    let select = format!("{SELECT_SEALED} WHERE app = $1 AND is_live = 1");
    let rows = sqlx::query(sqlx::AssertSqlSafe(select)).bind(&**app);
    let live: Result<Vec<_>, _> =
        rows.fetch_all(connection).await?.iter().map(SealedSecret::of).collect();
    let live: BTreeMap<_, _> = live?.into_iter().map(|s| (s.name.clone(), s)).collect();
    let is_change = |(name, value): &(&SecretName, Option<&Secret>)| match (live.get(*name), value)
    {
        (None, None) => false,
        (Some(live), Some(value)) => live.open(keyring).map_or(true, |live| !same(&live, value)),
        (Some(_), None) | (None, Some(_)) => true,
    };
    Ok(changes.iter().map(|(name, value)| (name, value.as_ref())).filter(is_change).collect())
}

/// In a time that does not tell how much of them is equal.
fn same(one: &Secret, other: &Secret) -> bool {
    let [one, other] = [one, other].map(|secret| secret.expose().as_bytes());
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

async fn live(
    connection: &mut SqliteConnection,
    app: &AppName,
) -> Result<Vec<SecretRecord>, StoreError> {
    let select = "SELECT name, version, written_at FROM secrets WHERE app = $1 AND is_live = 1
        ORDER BY name";
    let rows = sqlx::query(select).bind(&**app).fetch_all(connection).await?;
    let of = |row: &SqliteRow| {
        let version = unsigned(row.try_get("version")?);
        Ok(SecretRecord { name: parse_name(row)?, version, written_at: row.try_get("written_at")? })
    };
    rows.iter().map(of).collect()
}

/// Makes a value the live one; `None` for none.
async fn replace(
    connection: &mut SqliteConnection,
    app: &AppName,
    name: &SecretName,
    version: u64,
    sealed: Option<&Sealed>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE secrets SET is_live = 0 WHERE app = $1 AND name = $2")
        .bind(&**app)
        .bind(&**name)
        .execute(&mut *connection)
        .await?;
    let Some(sealed) = sealed else { return Ok(()) };
    sqlx::query(
        "INSERT INTO secrets (app, name, version, is_live, key_id, sealed, written_at)
         VALUES ($1, $2, $3, 1, $4, $5, $6)",
    )
    .bind(&**app)
    .bind(&**name)
    .bind(signed(version))
    .bind(&sealed.key)
    .bind(&sealed.text)
    .bind(crate::time::unix_millis())
    .execute(connection)
    .await?;
    Ok(())
}
