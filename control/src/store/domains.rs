//! Domains whose owner has yet to prove that an app may have them. They are the app's, and are not
//! served.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Row, SqliteConnection};
use weir_config::{App, AppName, AppSpec, DesiredApp, HostPath, Hostname};

use super::{
    Cause, Kind, Store, StoreError, Target, Verb, next_revision,
    operations::{Change, note_done},
    record_change,
};

/// By app.
pub(super) type Unverified = BTreeMap<AppName, BTreeSet<Hostname>>;

impl Store {
    /// Says whether domains that apps are given from now on must be verified; if not, all are.
    pub(crate) async fn verify_domains(&self, is_on: bool) -> Result<(), StoreError> {
        self.write(async |writing| {
            sqlx::query("UPDATE cluster SET verify_domains = $1 WHERE one = 1")
                .bind(i64::from(is_on))
                .execute(&mut *writing)
                .await?;
            if !is_on {
                sqlx::query("DELETE FROM unverified_domains").execute(writing).await?;
            }
            Ok(())
        })
        .await
    }

    /// An app as the loop takes it.
    pub(crate) async fn meant_app(&self, name: &AppName) -> Result<Option<DesiredApp>, StoreError> {
        let Some(mut app) = self.meant::<App>(name).await? else { return Ok(None) };
        let mut reading = self.readers.acquire().await?;
        if let Some(unverified) = unverified(&mut reading, Some(name)).await?.get(name) {
            hold_back(&mut app, unverified);
        }
        Ok(Some(app))
    }

    /// Notes that a domain may be an app's. Nothing happens if that is known.
    pub(crate) async fn domain_is_verified(
        &self,
        app: &AppName,
        domain: &Hostname,
    ) -> Result<(), StoreError> {
        let verified = self.write(async |writing| {
            let delete = "DELETE FROM unverified_domains WHERE app = $1 AND domain = $2";
            let deleted = sqlx::query(delete).bind(&**app).bind(&**domain);
            if deleted.execute(&mut *writing).await?.rows_affected() == 0 {
                return Ok(None);
            }
            let revision = next_revision(writing).await?;
            record_change(writing, revision, Kind::App, app).await?;
            let message = format!("{app} may have it");
            let change = Change::none(Target::domain(domain));
            note_done(writing, Cause::of_weir(Verb::Verify), change, message).await?;
            Ok(Some(revision))
        });
        if let Some(revision) = verified.await? {
            self.committed(revision);
        }
        Ok(())
    }
}

/// Those of one app, or of all.
pub(super) async fn unverified(
    connection: &mut SqliteConnection,
    app: Option<&AppName>,
) -> Result<Unverified, StoreError> {
    let select = "SELECT app, domain FROM unverified_domains WHERE $1 IS NULL OR app = $1";
    let rows = sqlx::query(select).bind(app.map(|app| &**app)).fetch_all(connection).await?;
    let mut all = Unverified::new();
    for row in &rows {
        let (app, domain): (String, String) = (row.try_get("app")?, row.try_get("domain")?);
        let app = app.parse().map_err(StoreError::Corrupt)?;
        all.entry(app).or_default().insert(domain.parse().map_err(StoreError::Corrupt)?);
    }
    Ok(all)
}

/// Takes from an app what it may not be served at yet.
pub(super) fn hold_back(app: &mut DesiredApp, unverified: &BTreeSet<Hostname>) {
    let is_verified = |hostname: &HostPath| !unverified.contains(&hostname.host);
    let (served, held) = app.app.hostnames.drain(..).partition(is_verified);
    (app.app.hostnames, app.unverified) = (served, held);
}

/// Notes which of an app's domains have yet to be verified: of those that it did not have before,
/// where that is asked for.
pub(super) async fn note_new(
    writing: &mut SqliteConnection,
    app: &App,
    former: Option<&AppSpec>,
) -> Result<(), StoreError> {
    let former = former.map(hosts_of).unwrap_or_default();
    let cluster = sqlx::query("SELECT base_domain, verify_domains FROM cluster WHERE one = 1");
    let cluster = cluster.fetch_one(&mut *writing).await?;
    let base: String = cluster.try_get("base_domain")?;
    let base: Hostname = base.parse().map_err(StoreError::Corrupt)?;
    let is_on = cluster.try_get::<i64, _>("verify_domains")? != 0;
    let hosts: BTreeSet<_> = app.hostnames.iter().map(|hostname| &hostname.host).collect();
    for known in unverified(writing, Some(&app.name)).await?.remove(&app.name).unwrap_or_default() {
        if !hosts.contains(&known) {
            let delete = "DELETE FROM unverified_domains WHERE app = $1 AND domain = $2";
            sqlx::query(delete).bind(&*app.name).bind(&*known).execute(&mut *writing).await?;
        }
    }
    let new = hosts.into_iter().filter(|host| !host.is_at_or_below(&base));
    for host in new.filter(|host| is_on && !former.contains(*host)) {
        let insert = "INSERT INTO unverified_domains (app, domain) VALUES ($1, $2)
             ON CONFLICT DO NOTHING";
        sqlx::query(insert).bind(&*app.name).bind(&**host).execute(&mut *writing).await?;
    }
    Ok(())
}

/// Those that are written.
fn hosts_of(spec: &AppSpec) -> BTreeSet<Hostname> {
    let served = spec.hostnames.iter().filter_map(|text| text.parse::<HostPath>().ok());
    let redirected = spec.redirects.keys().filter_map(|text| text.parse::<Hostname>().ok());
    served.map(|hostname| hostname.host).chain(redirected).collect()
}
