//! Apps, their deployments and their host names.

use std::sync::Arc;

use sqlx::SqliteConnection;
use weir_config::{
    App, AppManifest, AppName, AppSpec, Deployment, DesiredApp, HostPath, Hostname, Problems,
    ShardName, Source,
};

use super::{
    Kind, Store, StoreError, Verb,
    deployments::{Deployments, change, next_number, that_matter},
    domains,
    failover::check_source,
    objects::{Object, Record},
    parse_name,
    secrets::with_secrets,
    shards::name_shards,
};
use crate::transition::Transition;

impl Object for App {
    const KIND: Kind = Kind::App;

    type Name = AppName;
    type Spec = AppSpec;
    /// See [`DesiredApp::deployments`].
    type Extra = Vec<Deployment>;
    type Extras = Deployments;
    type Meant = DesiredApp;

    fn name(&self) -> &AppName {
        &self.name
    }

    async fn read_extras(
        connection: &mut SqliteConnection,
        name: Option<&AppName>,
    ) -> Result<Deployments, StoreError> {
        that_matter(connection, name).await
    }

    fn extra(
        extras: &mut Deployments,
        name: &AppName,
        spec: &AppSpec,
    ) -> Result<Vec<Deployment>, StoreError> {
        let of_app = extras.remove(&**name).unwrap_or_else(|| Ok(Vec::new()))?;
        // One that was an image has deployments still, so that their numbers go on.
        Ok(if spec.image.is_some() { of_app } else { Vec::new() })
    }

    fn deployment(extra: &Vec<Deployment>) -> Option<u64> {
        extra.first().map(|newest| newest.number)
    }

    fn meant(record: &Record<Self>, base_domain: &Hostname) -> Result<DesiredApp, Problems> {
        let (kind, name) = (Kind::App.as_str().to_owned(), record.name.to_string());
        let manifest = AppManifest { kind, name, spec: record.spec.clone() };
        let app = Self::from_manifest(&manifest, base_domain)?;
        let (generation, deployments) = (record.meta.generation, record.extra.clone());
        Ok(DesiredApp { app, unverified: Vec::new(), generation, deployments })
    }

    async fn write_extra(
        &self,
        writing: &mut SqliteConnection,
        former: Option<&Record<Self>>,
        verb: Verb,
    ) -> Result<(), StoreError> {
        claim_hostnames(writing, &self.name, &self.hostnames).await?;
        domains::note_new(writing, self, former.map(|former| &former.spec)).await?;
        name_shards(writing, &self.name, &shards_of(self)).await?;
        if let Source::Failover(policy) = &self.source {
            check_source(writing, policy).await?;
        }
        let Source::Image(template) = &self.source else {
            return change(writing, &self.name, &Transition::Retire).await.map(drop);
        };
        let template = with_secrets(writing, &self.name, template).await?;
        let newest = former.and_then(|former| former.extra.first());
        let cause = match verb {
            Verb::Deploy => weir_config::Cause::Deploy,
            Verb::Promote => weir_config::Cause::Promote,
            _ if newest.is_some_and(|newest| *newest.template == template) => return Ok(()),
            _ => weir_config::Cause::Apply,
        };
        let (number, template) = (next_number(writing, &self.name).await?, Arc::new(template));
        change(writing, &self.name, &Transition::Begin { number, template, cause }).await.map(drop)
    }

    async fn delete_extra(
        writing: &mut SqliteConnection,
        name: &AppName,
    ) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM deployments WHERE app = $1",
            "DELETE FROM hostnames WHERE app = $1",
            "DELETE FROM unverified_domains WHERE app = $1",
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
        Source::Image(_) | Source::Upstreams(_) | Source::Failover(_) => &[],
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
