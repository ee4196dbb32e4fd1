//! Apps, their deployments and their host names.

use std::sync::Arc;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{
    App, AppManifest, AppName, AppSpec, Deployment, Desired, DesiredApp, Hostname, Template,
};

use super::{Store, StoreError, next_revision, record, signed, unsigned};

/// An app as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AppRecord {
    pub(crate) manifest: AppManifest,
    /// Grows by one with every change of the spec.
    pub(crate) generation: u64,
    /// Of the store, when it was last changed.
    pub(crate) revision: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) deployment: Deployment,
}

/// What must hold for a write to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Precondition {
    #[default]
    None,
    /// The app must not exist.
    New,
    /// The app must be at this revision.
    Revision(u64),
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) app: AppRecord,
    pub(crate) created: bool,
    /// False when everything was as written already: then no revision was taken.
    pub(crate) changed: bool,
}

const SELECT_APP: &str = "SELECT o.name, o.spec, o.generation, o.revision, o.created_at,
        o.updated_at, d.number, d.template
    FROM objects o JOIN deployments d ON d.app = o.name
    WHERE o.kind = 'App'
      AND d.number = (SELECT MAX(number) FROM deployments WHERE app = o.name)";

impl Store {
    /// Everything as meant, at the last committed revision.
    ///
    /// # Errors
    /// When the database fails. A spec that this Weir finds invalid is left out with a log line,
    /// so that one bad row does not stop all other apps.
    pub(crate) async fn desired(&self) -> Result<Desired, StoreError> {
        let mut reading = self.readers.begin().await?;
        let row = sqlx::query("SELECT rev FROM cluster WHERE one = 1").fetch_one(&mut *reading);
        let revision = unsigned(row.await?.try_get("rev")?);
        let rows = sqlx::query(SELECT_APP).fetch_all(&mut *reading).await?;
        let mut desired = Desired { revision, ..Desired::default() };
        for row in &rows {
            match app_record(row).and_then(|record| self.meant(&record)) {
                Ok(app) => {
                    desired.apps.insert(app.app.name.clone(), Arc::new(app));
                }
                Err(error) => {
                    tracing::error!(%error, "an app cannot be read; what runs of it is left alone");
                    desired.unreadable.insert(parse_name(row)?);
                }
            }
        }
        Ok(desired)
    }

    /// The names of the apps changed after a revision, and the revision up to which they are told.
    /// `None` if that is too long ago to tell.
    pub(crate) async fn changes_since(
        &self,
        revision: u64,
    ) -> Result<Option<(u64, Vec<AppName>)>, StoreError> {
        let rows = sqlx::query("SELECT rev, name FROM changes WHERE rev > $1 ORDER BY rev")
            .bind(signed(revision))
            .fetch_all(&self.readers)
            .await?;
        let (mut last, mut names) = (revision, Vec::new());
        for row in &rows {
            let rev = unsigned(row.try_get("rev")?);
            // Revisions have no gap, so a gap is the edge of what is kept.
            if rev != last + 1 {
                return Ok(None);
            }
            last = rev;
            let name = parse_name(row)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Some((last, names)))
    }

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
        let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&self.readers).await?;
        // One that cannot be read is no reason not to see the others.
        Ok(rows.iter().filter_map(|row| app_record(row).ok()).collect())
    }

    /// Makes an app, or makes it what is written. With `redeploy` it gets a new deployment even if
    /// its template is as before.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::Conflict`] or [`StoreError::NoApp`] by the
    /// precondition, [`StoreError::HostnameTaken`], and those of the database; nothing is changed.
    pub(crate) async fn put_app(
        &self,
        manifest: &AppManifest,
        app: &App,
        precondition: Precondition,
        redeploy: bool,
        actor: &str,
    ) -> Result<Written, StoreError> {
        let written = self.write(async |writing| {
            let former = select_app(writing, &app.name).await?;
            check(precondition, former.as_ref(), &app.name)?;
            if let Some(former) = &former
                && former.manifest == *manifest
                && !redeploy
            {
                return Ok(Written { app: former.clone(), created: false, changed: false });
            }
            let revision = next_revision(writing).await?;
            claim_hostnames(writing, &app.name, &app.hostnames).await?;
            upsert_object(writing, manifest, revision).await?;
            let same_template =
                former.as_ref().is_some_and(|former| *former.deployment.template == *app.template);
            if redeploy || !same_template {
                insert_deployment(writing, &app.name, &app.template).await?;
            }
            let verb = if redeploy { "deploy" } else { "put" };
            record(writing, revision, actor, verb, &app.name).await?;
            let stored = select_app(writing, &app.name).await?;
            let stored = stored.ok_or_else(|| StoreError::NoApp(app.name.clone()))?;
            Ok(Written { app: stored, created: former.is_none(), changed: true })
        });
        let written = written.await?;
        self.committed(written.app.revision);
        Ok(written)
    }

    /// Removes an app and frees its host names. Its containers go when the loop has drained them.
    pub(crate) async fn delete_app(&self, app: &AppName, actor: &str) -> Result<u64, StoreError> {
        let deleted = self.write(async |writing| {
            let revision = next_revision(writing).await?;
            let deleted = sqlx::query("DELETE FROM objects WHERE kind = 'App' AND name = $1")
                .bind(&**app)
                .execute(&mut *writing)
                .await?;
            if deleted.rows_affected() == 0 {
                return Err(StoreError::NoApp(app.clone()));
            }
            for statement in
                ["DELETE FROM deployments WHERE app = $1", "DELETE FROM hostnames WHERE app = $1"]
            {
                sqlx::query(statement).bind(&**app).execute(&mut *writing).await?;
            }
            record(writing, revision, actor, "delete", app).await?;
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

    fn meant(&self, record: &AppRecord) -> Result<DesiredApp, StoreError> {
        let app = App::from_manifest(&record.manifest, &self.base_domain);
        let app = app.map_err(|problems| {
            StoreError::Corrupt(format!("App/{}: {problems}", record.manifest.name))
        })?;
        let (generation, deployment) = (record.generation, record.deployment.clone());
        Ok(DesiredApp { app, generation, deployment })
    }
}

fn check(
    precondition: Precondition,
    former: Option<&AppRecord>,
    app: &AppName,
) -> Result<(), StoreError> {
    match (precondition, former) {
        (Precondition::New, Some(_)) => Err(StoreError::NameTaken(app.clone())),
        (Precondition::Revision(_), None) => Err(StoreError::NoApp(app.clone())),
        (Precondition::Revision(expected), Some(former)) if former.revision != expected => {
            Err(StoreError::Conflict { found: former.revision, expected })
        }
        _ => Ok(()),
    }
}

async fn select_app(
    connection: &mut SqliteConnection,
    app: &AppName,
) -> Result<Option<AppRecord>, StoreError> {
    let select = format!("{SELECT_APP} AND o.name = $1");
    let row =
        sqlx::query(sqlx::AssertSqlSafe(select)).bind(&**app).fetch_optional(connection).await?;
    row.as_ref().map(app_record).transpose()
}

async fn upsert_object(
    connection: &mut SqliteConnection,
    manifest: &AppManifest,
    revision: u64,
) -> Result<(), StoreError> {
    let spec = serde_json::to_string(&manifest.spec).map_err(|error| corrupt(&error))?;
    sqlx::query(
        "INSERT INTO objects (kind, name, generation, revision, spec, created_at, updated_at)
         VALUES ('App', $1, 1, $2, $3, $4, $4)
         ON CONFLICT (kind, name) DO UPDATE SET generation = objects.generation + 1,
            revision = excluded.revision, spec = excluded.spec, updated_at = excluded.updated_at",
    )
    .bind(&manifest.name)
    .bind(signed(revision))
    .bind(spec)
    .bind(crate::time::unix_millis())
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes `hostnames` the app's, and those that it had before nobody's.
async fn claim_hostnames(
    connection: &mut SqliteConnection,
    app: &AppName,
    hostnames: &[Hostname],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM hostnames WHERE app = $1")
        .bind(&**app)
        .execute(&mut *connection)
        .await?;
    for hostname in hostnames {
        let claimed = sqlx::query(
            "INSERT INTO hostnames (hostname, app) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(&**hostname)
        .bind(&**app)
        .execute(&mut *connection)
        .await?;
        if claimed.rows_affected() == 0 {
            let owner = sqlx::query("SELECT app AS name FROM hostnames WHERE hostname = $1")
                .bind(&**hostname)
                .fetch_one(&mut *connection)
                .await?;
            let app = parse_name(&owner)?;
            return Err(StoreError::HostnameTaken { hostname: hostname.clone(), app });
        }
    }
    Ok(())
}

async fn insert_deployment(
    connection: &mut SqliteConnection,
    app: &AppName,
    template: &Template,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "INSERT INTO deployment_numbers (app, last) VALUES ($1, 1)
         ON CONFLICT (app) DO UPDATE SET last = deployment_numbers.last + 1 RETURNING last",
    )
    .bind(&**app)
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO deployments (app, number, template, created_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(&**app)
    .bind(row.try_get::<i64, _>("last")?)
    .bind(serde_json::to_string(template).map_err(|error| corrupt(&error))?)
    .bind(crate::time::unix_millis())
    .execute(connection)
    .await?;
    Ok(())
}

fn app_record(row: &SqliteRow) -> Result<AppRecord, StoreError> {
    let spec: AppSpec =
        serde_json::from_str(row.try_get("spec")?).map_err(|error| corrupt(&error))?;
    let template: Template =
        serde_json::from_str(row.try_get("template")?).map_err(|error| corrupt(&error))?;
    let name = row.try_get("name")?;
    let number = unsigned(row.try_get("number")?);
    Ok(AppRecord {
        manifest: AppManifest { kind: "App".to_owned(), name, spec },
        generation: unsigned(row.try_get("generation")?),
        revision: unsigned(row.try_get("revision")?),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        deployment: Deployment { number, template: Arc::new(template) },
    })
}

fn parse_name(row: &SqliteRow) -> Result<AppName, StoreError> {
    row.try_get::<String, _>("name")?.parse().map_err(StoreError::Corrupt)
}

fn corrupt(error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt(error.to_string())
}
