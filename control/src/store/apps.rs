//! Apps, their deployments and their host names.

use std::sync::Arc;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{
    App, AppManifest, AppName, AppSpec, Deployment, DesiredApp, HostPath, Hostname, Problems,
    ShardName, Source, Template,
};

use super::{
    Kind, Store, StoreError, Verb,
    objects::{Object, Record, from_json, to_json},
    parse_name,
    secrets::with_secrets,
    shards::name_shards,
    unsigned,
};

impl Object for App {
    const KIND: Kind = Kind::App;
    const COLUMNS: &str = ", d.number, d.template";
    const JOIN: &str = "LEFT JOIN deployments d ON d.app = o.name
        AND d.number = (SELECT MAX(number) FROM deployments WHERE app = o.name)";

    type Name = AppName;
    type Spec = AppSpec;
    /// Of an image, the newest deployment.
    type Extra = Option<Deployment>;
    type Meant = DesiredApp;

    fn name(&self) -> &AppName {
        &self.name
    }

    fn extra(row: &SqliteRow, spec: &AppSpec) -> Result<Option<Deployment>, StoreError> {
        // One that was an image has deployments still, so that their numbers go on.
        let Some(_) = spec.image else { return Ok(None) };
        let template = Arc::new(from_json(row, "template")?);
        Ok(Some(Deployment { number: unsigned(row.try_get("number")?), template }))
    }

    fn meant(record: &Record<Self>, base_domain: &Hostname) -> Result<DesiredApp, Problems> {
        let (kind, name) = (Kind::App.as_str().to_owned(), record.name.to_string());
        let manifest = AppManifest { kind, name, spec: record.spec.clone() };
        let app = Self::from_manifest(&manifest, base_domain)?;
        let (generation, deployment) = (record.meta.generation, record.extra.clone());
        Ok(DesiredApp { app, generation, deployment })
    }

    async fn write_extra(
        &self,
        writing: &mut SqliteConnection,
        former: Option<&Record<Self>>,
        verb: Verb,
    ) -> Result<(), StoreError> {
        claim_hostnames(writing, &self.name, &self.hostnames).await?;
        name_shards(writing, &self.name, &shards_of(self)).await?;
        let Source::Image(template) = &self.source else { return Ok(()) };
        let template = with_secrets(writing, &self.name, template).await?;
        let deployed = former.and_then(|former| former.extra.as_ref());
        if verb == Verb::Deploy || deployed.is_none_or(|former| *former.template != template) {
            insert_deployment(writing, &self.name, &template).await?;
        }
        Ok(())
    }

    async fn delete_extra(
        writing: &mut SqliteConnection,
        name: &AppName,
    ) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM deployments WHERE app = $1",
            "DELETE FROM hostnames WHERE app = $1",
            "DELETE FROM app_shards WHERE app = $1",
            "DELETE FROM secrets WHERE app = $1",
        ] {
            sqlx::query(statement).bind(&**name).execute(&mut *writing).await?;
        }
        Ok(())
    }
}

impl Store {
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
}

/// The shards that an app names, each with its place: those whose members answer, or the one on
/// whose hosts it runs.
fn shards_of(app: &App) -> Vec<(String, &ShardName)> {
    let source = match &app.source {
        Source::Shards(shards) => &**shards,
        Source::Image(_) | Source::Upstreams(_) => &[],
    };
    let source = source.iter().enumerate().map(|(i, name)| (format!("/spec/shards/{i}"), name));
    let placement = app.placement.shard.iter();
    source.chain(placement.map(|name| ("/spec/placement/shard".to_owned(), name))).collect()
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
    .bind(to_json(template)?)
    .bind(crate::time::unix_millis())
    .execute(connection)
    .await?;
    Ok(())
}
