//! Rolling updates of the apps on a shard's hosts: which are still to come, and which deployments
//! were made of the others. What has come of those is in the deployments themselves.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{
    App, AppManifest, AppName, AppSpec, Deployment, DeploymentState, Ending, Hostname, Shard,
    ShardName,
};

use super::{
    Cause, Kind, Operation, Precondition, Record, Store, StoreError, Verb,
    objects::{from_json, put, select},
    operations::{Change, begin},
    parse_name,
    shards::users,
    signed, to_json, unsigned,
};

/// What is deployed to all apps on a shard's hosts, and how.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RollingUpdateSpec {
    pub(crate) image: String,
    /// So many are on their way at once.
    pub(crate) parallel: u32,
    /// The part that may fail, in percent.
    pub(crate) max_failed_percent: u8,
}

/// A rolling update, and its apps by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RollingUpdate {
    pub(crate) image: String,
    pub(crate) parallel: usize,
    /// So many may fail; one more, and no other is begun.
    pub(crate) may_fail: usize,
    pub(crate) apps: Vec<UpdatedApp>,
}

/// An app of a rolling update.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdatedApp {
    pub(crate) app: AppName,
    /// Whether it still is there.
    pub(crate) exists: bool,
    /// The one that was made for it; `None` until it is its turn.
    pub(crate) deployment: Option<u64>,
    /// How far that one is, and why it is no further; `None` if it is no longer remembered.
    pub(crate) state: Option<DeploymentState>,
    pub(crate) ending: Option<Ending>,
    /// Why none could be made.
    pub(crate) failure: Option<String>,
}

impl Store {
    /// Notes a rolling update of the apps of an image that are placed on a shard.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NothingOnShard`], and those of the database; nothing
    /// is changed.
    pub(crate) async fn begin_rolling_update(
        &self,
        shard: &ShardName,
        spec: &RollingUpdateSpec,
        cause: Cause<'_>,
    ) -> Result<Operation, StoreError> {
        let begun = self.write(async |writing| {
            let record = select::<Shard>(writing, shard).await?;
            let record = record.ok_or_else(|| StoreError::not_found(Kind::Shard, shard))?;
            let apps = placed_on(writing, shard).await?;
            if apps.is_empty() {
                return Err(StoreError::NothingOnShard(shard.clone()));
            }
            let after = Some(to_json(spec)?);
            let change = Change { after, ..Change::none(record.target()) };
            let operation = begin(writing, cause, change).await?;
            let may_fail = apps.len() * usize::from(spec.max_failed_percent) / 100;
            insert(writing, operation.number, spec, may_fail, &apps).await?;
            Ok(operation)
        });
        let begun = begun.await?;
        self.operations_are_new();
        Ok(begun)
    }

    /// A rolling update by its operation.
    pub(crate) async fn rolling_update(
        &self,
        operation: u64,
    ) -> Result<Option<RollingUpdate>, StoreError> {
        let mut reading = self.readers.begin().await?;
        let row = sqlx::query("SELECT * FROM rolling_updates WHERE operation = $1")
            .bind(signed(operation))
            .fetch_optional(&mut *reading)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let apps = sqlx::query(
            "SELECT u.app AS name, u.deployment, u.failure, d.state, d.ending,
                EXISTS (SELECT 1 FROM objects o WHERE o.kind = 'App' AND o.name = u.app) AS is_there
             FROM rolling_update_apps u
             LEFT JOIN deployments d ON d.app = u.app AND d.number = u.deployment
             WHERE u.operation = $1 ORDER BY u.app",
        );
        let apps = apps.bind(signed(operation)).fetch_all(&mut *reading).await?;
        Ok(Some(RollingUpdate {
            image: row.try_get("image")?,
            parallel: row.try_get::<i64, _>("parallel")?.max(1) as usize,
            may_fail: row.try_get::<i64, _>("may_fail")?.max(0) as usize,
            apps: apps.iter().map(UpdatedApp::of).collect::<Result<_, _>>()?,
        }))
    }

    /// Deploys the image of a rolling update to one of its apps, in one transaction with the note
    /// that it was done. One that is on its way or live with that image as it is keeps its
    /// deployment. What cannot be deployed is noted with the reason.
    ///
    /// # Errors
    /// Those of the database; nothing is changed.
    pub(crate) async fn deploy_next(
        &self,
        operation: &Operation,
        image: &str,
        app: &AppName,
    ) -> Result<(), StoreError> {
        let deployed = self.write(async |writing| {
            let cause = Cause { actor: &operation.actor, verb: Verb::Deploy, key: None };
            let number = deploy(writing, app, image, &self.base_domain, cause).await?;
            note(writing, operation.number, app, Some(number), None).await?;
            super::revision(writing).await
        });
        match deployed.await {
            Ok(revision) => self.committed(revision),
            Err(error @ (StoreError::Full | StoreError::Closed | StoreError::Database(_))) => {
                return Err(error);
            }
            Err(why) => {
                let why = why.to_string();
                self.write(async |writing| {
                    note(writing, operation.number, app, None, Some(&why)).await
                })
                .await?;
                self.operations_are_new();
            }
        }
        Ok(())
    }
}

/// The apps of an image whose instances are placed on a shard's hosts.
async fn placed_on(
    writing: &mut SqliteConnection,
    shard: &ShardName,
) -> Result<Vec<AppName>, StoreError> {
    let mut apps = Vec::new();
    for name in users(writing, shard).await? {
        let Some(app) = select::<App>(writing, &name).await? else { continue };
        let placed = app.spec.placement.shard.as_deref() == Some(&**shard);
        if placed && app.spec.image.is_some() {
            apps.push(name);
        }
    }
    Ok(apps)
}

async fn insert(
    writing: &mut SqliteConnection,
    operation: u64,
    spec: &RollingUpdateSpec,
    may_fail: usize,
    apps: &[AppName],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rolling_updates (operation, image, parallel, may_fail)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(signed(operation))
    .bind(&spec.image)
    .bind(i64::from(spec.parallel))
    .bind(may_fail as i64)
    .execute(&mut *writing)
    .await?;
    for app in apps {
        sqlx::query("INSERT INTO rolling_update_apps (operation, app) VALUES ($1, $2)")
            .bind(signed(operation))
            .bind(&**app)
            .execute(&mut *writing)
            .await?;
    }
    Ok(())
}

/// Deploys an image to an app, and returns the number of the deployment.
async fn deploy(
    writing: &mut SqliteConnection,
    name: &AppName,
    image: &str,
    base_domain: &Hostname,
    cause: Cause<'_>,
) -> Result<u64, StoreError> {
    let former = select::<App>(writing, name).await?;
    let former = former.ok_or_else(|| StoreError::not_found(Kind::App, name))?;
    let is_it = |deployment: &Deployment| {
        let state = deployment.state;
        let is_meant = state.is_under_way() || state == DeploymentState::Live;
        is_meant && deployment.template.image == image
    };
    let newest = former.extra.first();
    if let Some(newest) = newest.filter(|newest| is_it(newest))
        && former.spec.image.as_deref() == Some(image)
    {
        return Ok(newest.number);
    }
    let spec = AppSpec { image: Some(image.to_owned()), ..former.spec };
    let manifest =
        AppManifest { kind: Kind::App.as_str().to_owned(), name: name.to_string(), spec };
    let app = App::from_manifest(&manifest, base_domain)
        .map_err(|problems| StoreError::Corrupt(problems.to_string()))?;
    let written = put(writing, &manifest.spec, &app, Precondition::Exists, cause).await?;
    let Record { extra, .. } = written.record;
    extra.first().map(|newest| newest.number).ok_or_else(|| StoreError::not_found(Kind::App, name))
}

/// Notes what was made for an app, unless that is noted already.
async fn note(
    writing: &mut SqliteConnection,
    operation: u64,
    app: &AppName,
    deployment: Option<u64>,
    failure: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE rolling_update_apps SET deployment = $3, failure = $4
         WHERE operation = $1 AND app = $2",
    )
    .bind(signed(operation))
    .bind(&**app)
    .bind(deployment.map(signed))
    .bind(failure)
    .execute(writing)
    .await?;
    Ok(())
}

impl UpdatedApp {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let state: Option<String> = row.try_get("state")?;
        let ending: Option<String> = row.try_get("ending")?;
        Ok(Self {
            app: parse_name(row)?,
            exists: row.try_get::<i64, _>("is_there")? != 0,
            deployment: row.try_get::<Option<i64>, _>("deployment")?.map(unsigned),
            state: state.map(|word| word.parse()).transpose().map_err(StoreError::Corrupt)?,
            ending: ending.map(|_| from_json(row, "ending")).transpose()?,
            failure: row.try_get("failure")?,
        })
    }
}
