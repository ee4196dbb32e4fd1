//! How failovers went: everything that they were decided from.

use sqlx::{Row, sqlite::SqliteRow};
use weir_config::{FailoverName, Moment};

use super::{Store, StoreError};

/// Of one policy; the oldest go first.
const MOST_KEPT: i64 = 20;

impl Store {
    /// Writes an incident of a policy as far as it has come; `text` is JSON. Of a policy that is
    /// deleted nothing is kept.
    pub(crate) async fn save_failover_incident(
        &self,
        policy: &FailoverName,
        opened: Moment,
        closed: Option<Moment>,
        text: &str,
    ) -> Result<(), StoreError> {
        let saved = self.write(async |writing| {
            sqlx::query(
                "INSERT INTO failover_incidents (policy, opened_at, closed_at, incident)
                 SELECT name, $2, $3, $4 FROM objects
                 WHERE kind = 'FailoverPolicy' AND name = $1
                 ON CONFLICT (policy, opened_at) DO UPDATE SET closed_at = excluded.closed_at,
                    incident = excluded.incident",
            )
            .bind(&**policy)
            .bind(millis(opened))
            .bind(closed.map(millis))
            .bind(text)
            .execute(&mut *writing)
            .await?;
            sqlx::query(
                "DELETE FROM failover_incidents WHERE policy NOT IN
                    (SELECT name FROM objects WHERE kind = 'FailoverPolicy')
                 OR (policy = $1 AND opened_at NOT IN
                    (SELECT opened_at FROM failover_incidents WHERE policy = $1
                     ORDER BY opened_at DESC LIMIT $2))",
            )
            .bind(&**policy)
            .bind(MOST_KEPT)
            .execute(writing)
            .await?;
            Ok(())
        });
        saved.await
    }

    /// The incidents of a policy, the newest first: JSON, and whether each is over.
    pub(crate) async fn failover_incidents(
        &self,
        policy: &FailoverName,
    ) -> Result<Vec<(String, bool)>, StoreError> {
        let rows = sqlx::query(
            "SELECT incident, closed_at FROM failover_incidents WHERE policy = $1
             ORDER BY opened_at DESC",
        );
        let rows = rows.bind(&**policy).fetch_all(&self.readers).await?;
        let read = |row: &SqliteRow| {
            let closed: Option<i64> = row.try_get("closed_at")?;
            Ok((row.try_get("incident")?, closed.is_some()))
        };
        rows.iter().map(read).collect()
    }
}

fn millis(moment: Moment) -> i64 {
    i64::try_from(moment.0).unwrap_or(i64::MAX)
}
