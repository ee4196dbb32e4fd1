//! What policies have done when a failover begins: it is asked for with the incident, in one
//! transaction, so that it is done once, over a crash too.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{FailoverMode, FailoverName, FailoverSpec, IncidentActionSpec, NotifierName};

use super::{IncidentRecord, Store, StoreError, objects::from_json, outbox, parse_name, to_json};
use crate::time::unix_millis;

/// Something that is to be done.
#[derive(Clone, Debug)]
pub(crate) struct DueAction {
    pub(crate) policy: FailoverName,
    pub(crate) action: IncidentActionSpec,
    pub(crate) incident: String,
    /// When the incident was opened, or opened again.
    pub(crate) at: i64,
    pub(crate) place: i64,
}

/// Asks for what the policy has done when this incident opens. Where nothing is to be changed, only
/// somebody is told.
pub(super) async fn ask(
    writing: &mut SqliteConnection,
    incident: &str,
    policy: &str,
    now: i64,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT spec FROM objects WHERE kind = 'FailoverPolicy' AND name = $1");
    let row = row.bind(policy).fetch_optional(&mut *writing).await?;
    // One that cannot be read has nothing done; the incident is noted all the same.
    let spec = row.and_then(|row| from_json::<FailoverSpec>(&row, "spec").ok());
    let Some(FailoverSpec { on_incident, mode, .. }) = spec else { return Ok(()) };
    let may = |action: &&IncidentActionSpec| {
        mode == FailoverMode::Auto || matches!(action, IncidentActionSpec::Page(_))
    };
    for (place, action) in on_incident.iter().filter(may).enumerate() {
        sqlx::query(
            "INSERT INTO failover_actions (incident, at, place, policy, action)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(incident)
        .bind(now)
        .bind(place as i64)
        .bind(policy)
        .bind(to_json(action)?)
        .execute(&mut *writing)
        .await?;
    }
    Ok(())
}

impl Store {
    /// What is to be done, the oldest first. What cannot be read any more is left out.
    pub(crate) async fn due_failover_actions(&self) -> Result<Vec<DueAction>, StoreError> {
        let rows = sqlx::query(
            "SELECT incident, at, place, policy AS name, action FROM failover_actions
             ORDER BY at, incident, place",
        );
        let rows = rows.fetch_all(&self.readers).await?;
        Ok(rows.iter().filter_map(|row| DueAction::of(row).ok()).collect())
    }

    /// Something is done, or cannot be.
    pub(crate) async fn forget_failover_action(&self, due: &DueAction) -> Result<(), StoreError> {
        let forgotten = self.write(async |writing| {
            sqlx::query(
                "DELETE FROM failover_actions WHERE incident = $1 AND at = $2 AND place = $3",
            )
            .bind(&due.incident)
            .bind(due.at)
            .bind(due.place)
            .execute(writing)
            .await?;
            Ok(())
        });
        forgotten.await
    }

    /// Leaves a message for these notifiers, whatever else they are told of. Those that there are
    /// none of are given back.
    pub(crate) async fn page(
        &self,
        notifiers: &[NotifierName],
        incident: &IncidentRecord,
    ) -> Result<Vec<NotifierName>, StoreError> {
        let now = unix_millis();
        self.write(async |writing| {
            let mut missing = Vec::new();
            for notifier in notifiers {
                let row = sqlx::query("SELECT name FROM notifiers WHERE name = $1");
                match row.bind(&**notifier).fetch_optional(&mut *writing).await? {
                    Some(_) => {
                        let body = outbox::body("incident.page", incident, now).to_string();
                        outbox::leave(writing, notifier, body, now).await?;
                    }
                    None => missing.push(notifier.clone()),
                }
            }
            Ok(missing)
        })
        .await
    }
}

impl DueAction {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            policy: parse_name(row)?,
            action: from_json(row, "action")?,
            incident: row.try_get("incident")?,
            at: row.try_get("at")?,
            place: row.try_get("place")?,
        })
    }
}
