//! Deployments: immutable and numbered, each with how far it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{App, AppName, Deployment, DeploymentState, Moment, Template};

use super::{
    Cause, Kind, Operation, Store, StoreError, Target, next_revision,
    objects::{from_json, select},
    operations::{Change, begin},
    record_change, secrets, signed, to_json, unsigned,
};
use crate::{
    time::unix_millis,
    transition::{Refused, Transition},
};

/// A deployment as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeploymentRecord {
    pub(crate) deployment: Deployment,
    /// Milliseconds since the Unix epoch, as the next two.
    pub(crate) created_at: i64,
    pub(crate) since: i64,
    pub(crate) kept_until: Option<i64>,
}

/// So many deployments of an app are remembered.
const KEPT: u64 = 50;

const SELECT: &str =
    "SELECT d.app AS name, d.number, d.template, d.state, d.step, d.since, d.cause,
        d.ending, d.kept_until, d.created_at
    FROM deployments d";

/// Those that the loop has to know of; `$1` is now.
const MATTER: &str = "(d.state IN ('pending', 'preparing', 'starting', 'verifying', 'shifting',
        'draining', 'live')
      OR d.kept_until > $1
      OR d.number = (SELECT MAX(number) FROM deployments WHERE app = d.app))";

impl Store {
    /// All deployments of an app that are remembered, the newest first.
    pub(crate) async fn deployments(
        &self,
        app: &AppName,
    ) -> Result<Vec<DeploymentRecord>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        of_app(&mut reader, app).await
    }

    /// Changes the deployments of an app, and notes the operation if anybody asked for it. `None` if
    /// it came too late and nothing has changed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] of the app, [`StoreError::Refused`], and those of the database;
    /// nothing is changed.
    pub(crate) async fn change_deployments(
        &self,
        app: &AppName,
        transition: &Transition,
        cause: Option<Cause<'_>>,
    ) -> Result<Option<Moved>, StoreError> {
        let moved = self.write(async |writing| {
            let former = select::<App>(writing, app).await?;
            if former.is_none() {
                return Err(StoreError::not_found(Kind::App, app));
            }
            if !change(writing, app, transition).await? {
                return Ok(None);
            }
            let revision = next_revision(writing).await?;
            record_change(writing, revision, Kind::App, app).await?;
            let (Some(cause), Some(record)) = (cause, select::<App>(writing, app).await?) else {
                return Ok(Some(Moved { revision, operation: None }));
            };
            // The one that is to be live: one that was brought back is not the newest.
            let meant = record.extra.iter().filter(|d| d.state <= DeploymentState::Live);
            let number = meant.min_by_key(|d| d.state).map(|deployment| deployment.number);
            let target = Target { deployment: number, ..record.target() };
            let change = Change { target, revision: Some(revision), before: None, after: None };
            let operation = Some(begin(writing, cause, change).await?);
            Ok(Some(Moved { revision, operation }))
        });
        let moved = moved.await?;
        if let Some(Moved { revision, .. }) = &moved {
            self.committed(*revision);
        }
        Ok(moved)
    }
}

/// What a change of deployments came to.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) revision: u64,
    pub(crate) operation: Option<Operation>,
}

/// Applies a transition within a write; returns whether anything has changed.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    app: &AppName,
    transition: &Transition,
) -> Result<bool, StoreError> {
    let records = of_app(connection, app).await?;
    let before: Vec<_> = records.into_iter().map(|record| record.deployment).collect();
    let mut after = before.clone();
    if !transition.apply(&mut after, Moment::now())? {
        return Ok(false);
    }
    for deployment in &after {
        match before.iter().find(|former| former.number == deployment.number) {
            None => insert(connection, app, deployment).await?,
            Some(former) if former != deployment => update(connection, app, deployment).await?,
            Some(_) => {}
        }
    }
    Ok(true)
}

/// A deployment number that was never used.
pub(super) async fn next_number(
    connection: &mut SqliteConnection,
    app: &AppName,
) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "INSERT INTO deployment_numbers (app, last) VALUES ($1, 1)
         ON CONFLICT (app) DO UPDATE SET last = deployment_numbers.last + 1 RETURNING last",
    );
    let row = row.bind(&**app).fetch_one(connection).await?;
    Ok(unsigned(row.try_get("last")?))
}

/// Deployments by the name of their app, the newest first; what cannot be read is an error of its app
/// alone.
pub(super) type Deployments = BTreeMap<String, Result<Vec<Deployment>, StoreError>>;

/// Those that matter, of one app or of all.
pub(super) async fn that_matter(
    connection: &mut SqliteConnection,
    app: Option<&AppName>,
) -> Result<Deployments, StoreError> {
    let of_app = if app.is_some() { "AND d.app = $2" } else { "" };
    let select = format!("{SELECT} WHERE {MATTER} {of_app} ORDER BY d.app, d.number DESC");
    let query = sqlx::query(sqlx::AssertSqlSafe(select)).bind(unix_millis());
    let query = match app {
        Some(app) => query.bind(&**app),
        None => query,
    };
    let mut found = Deployments::new();
    for row in &query.fetch_all(connection).await? {
        let of_app = found.entry(row.try_get("name")?).or_insert_with(|| Ok(Vec::new()));
        match (DeploymentRecord::of(row), &mut *of_app) {
            (Ok(record), Ok(deployments)) => deployments.push(record.deployment),
            (Err(error), _) => *of_app = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
    Ok(found)
}

async fn of_app(
    connection: &mut SqliteConnection,
    app: &AppName,
) -> Result<Vec<DeploymentRecord>, StoreError> {
    let select = format!("{SELECT} WHERE d.app = $1 ORDER BY d.number DESC");
    let rows = sqlx::query(sqlx::AssertSqlSafe(select)).bind(&**app).fetch_all(connection).await?;
    rows.iter().map(DeploymentRecord::of).collect()
}

async fn insert(
    connection: &mut SqliteConnection,
    app: &AppName,
    deployment: &Deployment,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO deployments (app, number, template, created_at, state, since, cause)
         VALUES ($1, $2, $3, $4, $5, $4, $6)",
    )
    .bind(&**app)
    .bind(signed(deployment.number))
    .bind(to_json(&*deployment.template)?)
    .bind(unix_millis())
    .bind(deployment.state.as_str())
    .bind(deployment.cause.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM deployments WHERE app = $1 AND number <= $2 AND kept_until IS NULL
           AND state IN ('superseded', 'failed', 'cancelled', 'rolled-back')",
    )
    .bind(&**app)
    .bind(signed(deployment.number.saturating_sub(KEPT)))
    .execute(&mut *connection)
    .await?;
    // The values that only those had named.
    secrets::prune(connection, app).await
}

async fn update(
    connection: &mut SqliteConnection,
    app: &AppName,
    deployment: &Deployment,
) -> Result<(), StoreError> {
    let ending = deployment.ending.as_deref().map(to_json).transpose()?;
    sqlx::query(
        "UPDATE deployments SET state = $3, step = $4, since = $5, cause = $6, ending = $7,
            kept_until = $8
         WHERE app = $1 AND number = $2",
    )
    .bind(&**app)
    .bind(signed(deployment.number))
    .bind(deployment.state.as_str())
    .bind(i64::from(deployment.step))
    .bind(unix_of(deployment.since))
    .bind(deployment.cause.as_str())
    .bind(ending)
    .bind(deployment.kept_until.map(unix_of))
    .execute(connection)
    .await?;
    Ok(())
}

impl DeploymentRecord {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let word = |column| row.try_get::<String, _>(column);
        let since = row.try_get("since")?;
        let kept_until: Option<i64> = row.try_get("kept_until")?;
        let ending: Option<String> = row.try_get("ending")?;
        let deployment = Deployment {
            number: unsigned(row.try_get("number")?),
            template: Arc::new(from_json::<Template>(row, "template")?),
            state: word("state")?.parse().map_err(StoreError::Corrupt)?,
            step: row.try_get::<i64, _>("step")? as u16,
            since: moment_of(since),
            cause: word("cause")?.parse().map_err(StoreError::Corrupt)?,
            kept_until: kept_until.map(moment_of),
            ending: ending.map(|_| from_json(row, "ending")).transpose()?.map(Arc::new),
        };
        Ok(Self { deployment, created_at: row.try_get("created_at")?, since, kept_until })
    }
}

/// A point of the wall clock on the clock of decisions. What was before this process began is taken
/// for its beginning, so that a deadline begins anew with it.
fn moment_of(unix: i64) -> Moment {
    let (now, ahead) = (Moment::now(), unix - unix_millis());
    let span = Duration::from_millis(ahead.unsigned_abs());
    if ahead > 0 { now + span } else { now - span }
}

fn unix_of(moment: Moment) -> i64 {
    let now = Moment::now();
    let ago = now.since(moment).as_millis() as i64;
    unix_millis() - ago + moment.since(now).as_millis() as i64
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
