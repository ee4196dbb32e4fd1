//! Devices: who may become one, and who is one.

use std::collections::BTreeMap;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{DEVICE_LABEL, Host, HostManifest, HostName};
use weir_deploy::About;

use super::{
    Cause, Kind, Precondition, Store, StoreError, Verb,
    objects::{delete, from_json, put, select},
    parse_name, revision, sequence, to_json,
};
use crate::time::unix_millis;

/// Invitations that wait.
const MAX_INVITES: i64 = 1000;

/// A device as it is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeviceRecord {
    pub(crate) name: HostName,
    pub(crate) fingerprint: String,
    pub(crate) about: About,
    /// Milliseconds since the Unix epoch, as are the others.
    pub(crate) enrolled_at: i64,
    /// When it connected last.
    pub(crate) seen_at: i64,
    pub(crate) revoked_at: Option<i64>,
    /// The node of a tailnet by which alone it comes.
    pub(crate) node: Option<String>,
}

/// Who may become a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invite {
    pub(crate) name: Option<HostName>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) expires_at: i64,
}

/// Somebody who shows an invitation.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    /// Of the invitation's secret.
    pub(crate) hash: &'a str,
    /// Of the key that was made on the device.
    pub(crate) fingerprint: &'a str,
    /// The name it would like, if the invitation says none.
    pub(crate) wish: Result<HostName, String>,
    pub(crate) about: &'a About,
    /// The node of a tailnet that it comes from.
    pub(crate) node: Option<&'a str>,
}

/// Why an invitation is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoClaim {
    #[error("this invitation is not known here")]
    Unknown,
    #[error("this invitation has expired; make another one by: weir device invite")]
    Expired,
    #[error("this invitation was used by another device; make another one by: weir device invite")]
    Used,
    #[error("{0}; choose another name by --name")]
    BadName(String),
    #[error("the name `{0}` is taken; choose another one by --name")]
    NameTaken(HostName),
    #[error("this device was revoked")]
    Revoked,
    #[error("this device is enrolled already, as `{0}`; rename it by: weir device rename {0} NAME")]
    Enrolled(HostName),
}

const SELECT: &str = "SELECT name, fingerprint, about, enrolled_at, seen_at, revoked_at, node
    FROM devices";

impl DeviceRecord {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: parse_name(row)?,
            fingerprint: row.try_get("fingerprint")?,
            about: from_json(row, "about")?,
            enrolled_at: row.try_get("enrolled_at")?,
            seen_at: row.try_get("seen_at")?,
            revoked_at: row.try_get("revoked_at")?,
            node: row.try_get("node")?,
        })
    }
}

impl Store {
    /// Begins to speak to devices: every time with a higher number than ever before.
    pub(crate) async fn next_epoch(&self) -> Result<u64, StoreError> {
        let taken = self.write(async |writing| sequence(writing, "control/epoch", 1).await);
        Ok(taken.await?.unwrap_or(1))
    }

    /// Keeps an invitation by the hash of its secret.
    ///
    /// # Errors
    /// [`StoreError::TooManyInvites`], and those of the database.
    pub(crate) async fn invite(&self, hash: &str, invite: &Invite) -> Result<(), StoreError> {
        let now = unix_millis();
        let kept = self.write(async |writing| {
            let waiting = sqlx::query(
                "SELECT COUNT(*) AS n FROM device_invites
                 WHERE expires_at > $1 AND claimed_by IS NULL",
            );
            let waiting = waiting.bind(now).fetch_one(&mut *writing).await?;
            if waiting.try_get::<i64, _>("n")? >= MAX_INVITES {
                return Err(StoreError::TooManyInvites);
            }
            sqlx::query(
                "INSERT INTO device_invites (hash, name, labels, created_at, expires_at)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(hash)
            .bind(invite.name.as_deref())
            .bind(to_json(&invite.labels)?)
            .bind(now)
            .bind(invite.expires_at)
            .execute(&mut *writing)
            .await?;
            Ok(())
        });
        kept.await
    }

    /// Trades an invitation for a name. Whoever asks again with the same key gets the same answer:
    /// the first one may have been lost on its way.
    ///
    /// # Errors
    /// Those of the database; why it is not good is part of the answer.
    pub(crate) async fn claim(
        &self,
        claim: Claim<'_>,
    ) -> Result<Result<(HostName, Invite), NoClaim>, StoreError> {
        self.write(async |writing| {
            let Some((invite, claimed_by)) = find_invite(writing, claim.hash).await? else {
                return Ok(Err(NoClaim::Unknown));
            };
            let of_key = format!("{SELECT} WHERE fingerprint = $1");
            let of_key = sqlx::query(sqlx::AssertSqlSafe(of_key)).bind(claim.fingerprint);
            let known = of_key.fetch_optional(&mut *writing).await?;
            let known = known.as_ref().map(DeviceRecord::of).transpose()?;
            match (claimed_by, &known) {
                (_, Some(known)) if known.revoked_at.is_some() => return Ok(Err(NoClaim::Revoked)),
                (Some(by), Some(known)) if by == claim.fingerprint => {
                    return Ok(Ok((known.name.clone(), invite)));
                }
                (Some(_), _) => return Ok(Err(NoClaim::Used)),
                (None, _) if unix_millis() >= invite.expires_at => {
                    return Ok(Err(NoClaim::Expired));
                }
                (None, _) => {}
            }
            let name = match known {
                // Its own invitation may be lost; it stays who it is.
                Some(known) if invite.name.as_ref().is_none_or(|name| *name == known.name) => {
                    known.name
                }
                Some(known) => return Ok(Err(NoClaim::Enrolled(known.name))),
                None => match name_of(writing, &invite, claim.wish).await? {
                    Ok(name) => name,
                    Err(refused) => return Ok(Err(refused)),
                },
            };
            sqlx::query(
                "INSERT INTO devices (name, fingerprint, about, enrolled_at, seen_at, node)
                 VALUES ($1, $2, $3, $4, $4, $5)
                 ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint,
                   about = excluded.about, enrolled_at = excluded.enrolled_at,
                   seen_at = excluded.seen_at, node = excluded.node, revoked_at = NULL",
            )
            .bind(&*name)
            .bind(claim.fingerprint)
            .bind(to_json(claim.about)?)
            .bind(unix_millis())
            .bind(claim.node)
            .execute(&mut *writing)
            .await?;
            sqlx::query("UPDATE device_invites SET claimed_by = $1 WHERE hash = $2")
                .bind(claim.fingerprint)
                .bind(claim.hash)
                .execute(&mut *writing)
                .await?;
            Ok(Ok((name, invite)))
        })
        .await
    }

    /// The device whose key has this fingerprint.
    pub(crate) async fn device_of(
        &self,
        fingerprint: &str,
    ) -> Result<Option<DeviceRecord>, StoreError> {
        self.one_device("fingerprint", fingerprint).await
    }

    pub(crate) async fn device(&self, name: &HostName) -> Result<Option<DeviceRecord>, StoreError> {
        self.one_device("name", name).await
    }

    async fn one_device(
        &self,
        column: &str,
        value: &str,
    ) -> Result<Option<DeviceRecord>, StoreError> {
        let select = format!("{SELECT} WHERE {column} = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(select)).bind(value);
        let row = row.fetch_optional(&self.readers).await?;
        row.as_ref().map(DeviceRecord::of).transpose()
    }

    /// All devices, by name.
    pub(crate) async fn devices(&self) -> Result<Vec<DeviceRecord>, StoreError> {
        let select = format!("{SELECT} ORDER BY name");
        let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&self.readers).await?;
        rows.iter().map(DeviceRecord::of).collect()
    }

    /// Notes that a device has connected, and what it says of itself. Not each of its beats.
    pub(crate) async fn device_seen(
        &self,
        name: &HostName,
        about: Option<&About>,
    ) -> Result<(), StoreError> {
        let noted = self.write(async |writing| {
            let about = about.map(to_json).transpose()?;
            sqlx::query(
                "UPDATE devices SET seen_at = $1, about = COALESCE($2, about) WHERE name = $3",
            )
            .bind(unix_millis())
            .bind(about)
            .bind(&**name)
            .execute(&mut *writing)
            .await?;
            Ok(())
        });
        noted.await
    }

    /// Takes a device's identity from it for good; whether there is such a device.
    pub(crate) async fn revoke_device(&self, name: &HostName) -> Result<bool, StoreError> {
        let revoked = self.write(async |writing| {
            let revoked = sqlx::query(
                "UPDATE devices SET revoked_at = COALESCE(revoked_at, $1) WHERE name = $2",
            )
            .bind(unix_millis())
            .bind(&**name)
            .execute(&mut *writing)
            .await?;
            Ok(revoked.rows_affected() > 0)
        });
        revoked.await
    }
}

impl Store {
    /// Gives a device another name, and the host that it is; its key stays, and so does its identity.
    /// `cause` is that of each change.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] if there is a host of the new name, and those of the database;
    /// nothing is changed. `false` if there is no such device, or one of the new name.
    pub(crate) async fn rename_device<'a>(
        &self,
        name: &HostName,
        to: &HostName,
        cause: impl Fn(Verb) -> Cause<'a>,
    ) -> Result<bool, StoreError> {
        let renamed = self.write(async |writing| {
            let renamed = sqlx::query(
                "UPDATE devices SET name = $1 WHERE name = $2
                 AND NOT EXISTS (SELECT 1 FROM devices WHERE name = $1)",
            )
            .bind(&**to)
            .bind(&**name)
            .execute(&mut *writing)
            .await?;
            if renamed.rows_affected() == 0 {
                return Ok(None);
            }
            // The host of the former name has nothing to be reached by any more.
            let Some(former) = select::<Host>(writing, name).await? else {
                return revision(writing).await.map(Some);
            };
            let mut spec = former.spec;
            (spec.cordoned, spec.draining) = (false, false);
            spec.labels.insert(DEVICE_LABEL.to_owned(), to.to_string());
            let (kind, written) = (Kind::Host.as_str().to_owned(), to.to_string());
            let manifest = HostManifest { kind, name: written, spec };
            let host = Host::from_manifest(&manifest)
                .map_err(|problems| StoreError::Corrupt(problems.to_string()))?;
            put(writing, &manifest.spec, &host, Precondition::New, cause(Verb::Put)).await?;
            let deleting = cause(Verb::Delete);
            let (revision, _) = delete::<Host>(writing, name, Precondition::None, deleting).await?;
            Ok(Some(revision))
        });
        let revision = renamed.await?;
        revision.into_iter().for_each(|revision| self.committed(revision));
        Ok(revision.is_some())
    }
}

async fn find_invite(
    writing: &mut SqliteConnection,
    hash: &str,
) -> Result<Option<(Invite, Option<String>)>, StoreError> {
    let row = sqlx::query(
        "SELECT name, labels, expires_at, claimed_by FROM device_invites WHERE hash = $1",
    )
    .bind(hash)
    .fetch_optional(writing)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let name = row.try_get::<Option<String>, _>("name")?;
    let invite = Invite {
        name: name.map(|name| name.parse()).transpose().map_err(StoreError::Corrupt)?,
        labels: from_json(&row, "labels")?,
        expires_at: row.try_get("expires_at")?,
    };
    Ok(Some((invite, row.try_get("claimed_by")?)))
}

/// The name that a new device gets. One that is in use is given anew only to who was invited by
/// that name: so a broken device is replaced, and nobody becomes another one by chance.
async fn name_of(
    writing: &mut SqliteConnection,
    invite: &Invite,
    wish: Result<HostName, String>,
) -> Result<Result<HostName, NoClaim>, StoreError> {
    if let Some(name) = &invite.name {
        return Ok(Ok(name.clone()));
    }
    let name = match wish {
        Ok(name) => name,
        Err(why) => return Ok(Err(NoClaim::BadName(why))),
    };
    let is_device = sqlx::query("SELECT 1 FROM devices WHERE name = $1").bind(&*name);
    let is_device = is_device.fetch_optional(&mut *writing).await?.is_some();
    let is_taken = is_device || name.is_local() || select::<Host>(writing, &name).await?.is_some();
    Ok(if is_taken { Err(NoClaim::NameTaken(name)) } else { Ok(name) })
}
