//! Apps, their deployments and their host names.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{
    App, AppManifest, AppName, AppSpec, Cause, Deployment, DesiredApp, HostPath, Source,
};

use super::{
    Kind, Precondition, Store, StoreError, Written,
    deployments::{all_that_matter, change, next_number, that_matter},
    next_revision,
    objects::{Meta, delete, from_json, upsert},
    parse_name, record,
    shards::name_shards,
};
use crate::transition::Transition;

/// An app as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AppRecord {
    pub(crate) manifest: AppManifest,
    pub(crate) meta: Meta,
    /// See [`DesiredApp::deployments`].
    pub(crate) deployments: Vec<Deployment>,
}

pub(super) const SELECT_APP: &str = "SELECT o.name, o.spec, o.generation, o.revision, o.created_at,
        o.updated_at
    FROM objects o
    WHERE o.kind = 'App'";

impl Store {
    pub(crate) async fn desired_app(
        &self,
        app: &AppName,
    ) -> Result<Option<DesiredApp>, StoreError> {
        self.app(app).await?.map(|record| self.meant(&record)).transpose()
    }

    pub(crate) async fn app(&self, app: &AppName) -> Result<Option<AppRecord>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        select_app(&mut reader, app).await
    }

    /// All apps, by name.
    pub(crate) async fn apps(&self) -> Result<Vec<AppRecord>, StoreError> {
        let select = format!("{SELECT_APP} ORDER BY o.name");
        let mut reading = self.readers.begin().await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&mut *reading).await?;
        let mut deployments = all_that_matter(&mut reading).await?;
        // One that cannot be read is no reason not to see the others.
        let read = |row: &SqliteRow| {
            let of_app = deployments.remove(row.try_get::<&str, _>("name").ok()?);
            AppRecord::of(row, of_app.unwrap_or_else(|| Ok(Vec::new())).ok()?).ok()
        };
        Ok(rows.iter().filter_map(read).collect())
    }

    /// Makes an app, or makes it what is written. With `redeploy` it gets a new deployment even if
    /// its template is that of the newest one.
    ///
    /// # Errors
    /// Those of the precondition, [`StoreError::HostnameTaken`], [`StoreError::NoSuchShard`], and
    /// those of the database; nothing is changed.
    pub(crate) async fn put_app(
        &self,
        manifest: &AppManifest,
        app: &App,
        precondition: Precondition,
        redeploy: Option<Cause>,
        actor: &str,
    ) -> Result<Written<AppRecord>, StoreError> {
        let written = self.write(async |writing| {
            let former = select_app(writing, &app.name).await?;
            precondition.check(former.as_ref().map(|f| &f.meta), Kind::App, &app.name)?;
            if let Some(former) = &former
                && former.manifest == *manifest
                && redeploy.is_none()
            {
                return Ok(Written { record: former.clone(), created: false, changed: false });
            }
            let revision = next_revision(writing).await?;
            claim_hostnames(writing, &app.name, &app.hostnames).await?;
            upsert(writing, Kind::App, &app.name, &manifest.spec, revision).await?;
            let shards = match &app.source {
                Source::Shards(shards) => &**shards,
                Source::Image(_) | Source::Upstreams(_) => &[],
            };
            name_shards(writing, &app.name, shards).await?;
            let newest = former.as_ref().and_then(|former| former.deployments.first());
            match &app.source {
                Source::Image(template) => {
                    let differs = newest.is_none_or(|newest| newest.template != *template);
                    if redeploy.is_some() || differs {
                        let cause = redeploy.unwrap_or_default();
                        let (number, template) =
                            (next_number(writing, &app.name).await?, template.clone());
                        let begin = Transition::Begin { number, template, cause };
                        change(writing, &app.name, &begin).await?;
                    }
                }
                Source::Upstreams(_) | Source::Shards(_) => {
                    change(writing, &app.name, &Transition::Retire).await?;
                }
            }
            let verb = redeploy.map_or("put", Cause::as_str);
            record(writing, revision, actor, verb, Kind::App, &app.name).await?;
            let stored = select_app(writing, &app.name).await?;
            let stored = stored.ok_or_else(|| StoreError::not_found(Kind::App, &app.name))?;
            Ok(Written { record: stored, created: former.is_none(), changed: true })
        });
        let written = written.await?;
        self.committed(written.record.meta.revision);
        Ok(written)
    }

    /// Removes an app and frees its host names. Its containers go when the loop has drained them.
    pub(crate) async fn delete_app(&self, app: &AppName, actor: &str) -> Result<u64, StoreError> {
        let deleted = self.write(async |writing| {
            let revision = next_revision(writing).await?;
            delete(writing, Kind::App, app).await?;
            for statement in [
                "DELETE FROM deployments WHERE app = $1",
                "DELETE FROM hostnames WHERE app = $1",
                "DELETE FROM app_shards WHERE app = $1",
            ] {
                sqlx::query(statement).bind(&**app).execute(&mut *writing).await?;
            }
            record(writing, revision, actor, "delete", Kind::App, app).await?;
            Ok(revision)
        });
        let revision = deleted.await?;
        self.committed(revision);
        Ok(revision)
    }

    /// Gives every app its name under the base domain that is set now.
    pub(super) async fn rename_base_domain(&self) -> Result<(), StoreError> {
        let apps = self.desired().await?.apps;
        let renamed = self.write(async |writing| {
            sqlx::query("DELETE FROM hostnames").execute(&mut *writing).await?;
            for app in apps.values() {
                claim_hostnames(writing, &app.app.name, &app.app.hostnames).await?;
            }
            sqlx::query("UPDATE cluster SET base_domain = $1 WHERE one = 1")
                .bind(&*self.base_domain)
                .execute(&mut *writing)
                .await?;
            Ok(())
        });
        renamed.await
    }

    pub(super) fn meant(&self, record: &AppRecord) -> Result<DesiredApp, StoreError> {
        let app = App::from_manifest(&record.manifest, &self.base_domain);
        let app = app.map_err(|problems| {
            StoreError::Corrupt(format!("App/{}: {problems}", record.manifest.name))
        })?;
        let (generation, deployments) = (record.meta.generation, record.deployments.clone());
        Ok(DesiredApp { app, generation, deployments })
    }
}

async fn select_app(
    connection: &mut SqliteConnection,
    app: &AppName,
) -> Result<Option<AppRecord>, StoreError> {
    let select = format!("{SELECT_APP} AND o.name = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(select)).bind(&**app);
    let Some(row) = row.fetch_optional(&mut *connection).await? else { return Ok(None) };
    AppRecord::of(&row, that_matter(connection, app).await?).map(Some)
}

/// Makes `hostnames` the app's, and those that it had before nobody's.
async fn claim_hostnames(
    connection: &mut SqliteConnection,
    app: &AppName,
    hostnames: &[HostPath],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM hostnames WHERE app = $1")
        .bind(&**app)
        .execute(&mut *connection)
        .await?;
    for hostname in hostnames {
        let text = hostname.to_string();
        let claimed = sqlx::query(
            "INSERT INTO hostnames (hostname, app) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(&text)
        .bind(&**app)
        .execute(&mut *connection)
        .await?;
        if claimed.rows_affected() == 0 {
            let owner = sqlx::query("SELECT app AS name FROM hostnames WHERE hostname = $1")
                .bind(&text)
                .fetch_one(&mut *connection)
                .await?;
            let app = parse_name(&owner)?;
            return Err(StoreError::HostnameTaken { hostname: hostname.clone(), app });
        }
    }
    Ok(())
}

impl AppRecord {
    pub(super) fn of(row: &SqliteRow, deployments: Vec<Deployment>) -> Result<Self, StoreError> {
        let spec: AppSpec = from_json(row, "spec")?;
        // One that was an image has deployments still, so that their numbers go on.
        let deployments = if spec.image.is_some() { deployments } else { Vec::new() };
        let (kind, name) = (Kind::App.as_str().to_owned(), row.try_get("name")?);
        let manifest = AppManifest { kind, name, spec };
        Ok(Self { manifest, meta: Meta::of(row)?, deployments })
    }
}
