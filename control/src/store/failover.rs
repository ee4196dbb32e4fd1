//! Failover policies: the host names that they steer, and how far their controllers are.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{
    FailoverManifest, FailoverName, FailoverPolicy, FailoverSpec, Hostname, Problems, Steering,
};

use super::{
    Kind, Store, StoreError, Verb,
    objects::{Object, Record, from_json},
    parse_name,
    providers::name_provider,
    to_json,
};
use crate::time::unix_millis;

/// How far the controller of a policy was when that was saved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SavedFailover {
    pub(crate) policy: FailoverName,
    /// JSON: all that it knew.
    pub(crate) state: String,
    /// What was to be served.
    pub(crate) steering: Steering,
    /// Milliseconds since the Unix epoch.
    pub(crate) saved_at: i64,
}

impl Object for FailoverPolicy {
    const KIND: Kind = Kind::FailoverPolicy;

    type Name = FailoverName;
    type Spec = FailoverSpec;
    type Extra = ();
    type Extras = ();
    type Meant = Self;

    fn name(&self) -> &FailoverName {
        &self.name
    }

    fn extra(_: &mut (), _: &FailoverName, _: &FailoverSpec) -> Result<(), StoreError> {
        Ok(())
    }

    fn meant(record: &Record<Self>, _: &Hostname) -> Result<Self, Problems> {
        let (kind, name) = (Kind::FailoverPolicy.as_str().to_owned(), record.name.to_string());
        Self::from_manifest(&FailoverManifest { kind, name, spec: record.spec.clone() })
    }

    /// # Errors
    /// [`StoreError::HostnameSteered`], [`StoreError::NoSuchProvider`].
    async fn write_extra(
        &self,
        writing: &mut SqliteConnection,
        _: Option<&Record<Self>>,
        _: Verb,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM failover_hostnames WHERE policy = $1")
            .bind(&*self.name)
            .execute(&mut *writing)
            .await?;
        for (i, hostname) in self.hostnames.iter().enumerate() {
            claim(writing, &self.name, i, hostname).await?;
        }
        name_provider(writing, &self.name, self.provider.as_ref()).await
    }

    async fn delete_extra(
        writing: &mut SqliteConnection,
        name: &FailoverName,
    ) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM failover_hostnames WHERE policy = $1",
            "DELETE FROM failover_states WHERE policy = $1",
            "DELETE FROM failover_providers WHERE policy = $1",
        ] {
            sqlx::query(statement).bind(&**name).execute(&mut *writing).await?;
        }
        Ok(())
    }
}

/// Whether an app can be in front of the targets of this policy. It may lose them later, and is then
/// unavailable.
pub(super) async fn check_source(
    writing: &mut SqliteConnection,
    policy: &FailoverName,
) -> Result<(), StoreError> {
    let found = sqlx::query("SELECT spec FROM objects WHERE kind = 'FailoverPolicy' AND name = $1")
        .bind(&**policy)
        .fetch_optional(writing)
        .await?;
    let Some(found) = found else { return Err(StoreError::NoSuchPolicy(policy.clone())) };
    let spec: FailoverSpec = from_json(&found, "spec")?;
    match spec.targets.iter().any(|target| target.own) {
        true => Err(StoreError::OwnTarget(policy.clone())),
        false => Ok(()),
    }
}

/// Makes a host name the policy's, at this place of it.
async fn claim(
    writing: &mut SqliteConnection,
    policy: &FailoverName,
    place: usize,
    hostname: &Hostname,
) -> Result<(), StoreError> {
    let claimed = sqlx::query(
        "INSERT INTO failover_hostnames (hostname, policy) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    );
    let claimed = claimed.bind(&**hostname).bind(&**policy).execute(&mut *writing).await?;
    if claimed.rows_affected() > 0 {
        return Ok(());
    }
    let owner = sqlx::query("SELECT policy AS name FROM failover_hostnames WHERE hostname = $1");
    let owner = parse_name(&owner.bind(&**hostname).fetch_one(writing).await?)?;
    let pointer = format!("/spec/hostnames/{place}");
    Err(StoreError::HostnameSteered { pointer, hostname: hostname.clone(), policy: owner })
}

impl Store {
    /// Saves how far the controller of a policy is, before what follows is served. Of a policy that
    /// is deleted nothing is saved.
    pub(crate) async fn save_failover_state(
        &self,
        policy: &FailoverName,
        state: &str,
        steering: &Steering,
    ) -> Result<(), StoreError> {
        let saved = self.write(async |writing| {
            sqlx::query(
                "INSERT INTO failover_states (policy, state, steering, saved_at)
                 SELECT name, $2, $3, $4 FROM objects
                 WHERE kind = 'FailoverPolicy' AND name = $1
                 ON CONFLICT (policy) DO UPDATE SET state = excluded.state,
                    steering = excluded.steering, saved_at = excluded.saved_at",
            )
            .bind(&**policy)
            .bind(state)
            .bind(to_json(steering)?)
            .bind(unix_millis())
            .execute(writing)
            .await?;
            Ok(())
        });
        saved.await
    }

    /// How far all controllers were. One that cannot be read is told and left out: it begins anew.
    pub(crate) async fn failover_states(&self) -> Result<Vec<SavedFailover>, StoreError> {
        let rows = sqlx::query(
            "SELECT policy AS name, state, steering, saved_at FROM failover_states ORDER BY policy",
        );
        let rows = rows.fetch_all(&self.readers).await?;
        let read = |row: &SqliteRow| match SavedFailover::of(row) {
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(%error, "what a failover policy had decided cannot be read");
                None
            }
            read => Some(read),
        };
        rows.iter().filter_map(read).collect()
    }
}

impl SavedFailover {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            policy: parse_name(row)?,
            state: row.try_get("state")?,
            steering: from_json(row, "steering")?,
            saved_at: row.try_get("saved_at")?,
        })
    }
}
