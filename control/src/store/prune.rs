//! What is kept of what only grows.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::{CHANGES_KEPT, Store, StoreError, revision, signed};
use crate::time::unix_millis;

/// Of operations, which are the audit log too.
pub(super) const KEPT_OPERATIONS: i64 = 100_000;
const OPERATIONS_FOR: Duration = Duration::from_hours(90 * 24);
/// Of events and the logs of deployments.
const EVENTS_FOR: Duration = Duration::from_hours(30 * 24);
/// Of devices that were revoked.
const REVOKED_FOR: Duration = Duration::from_hours(90 * 24);
/// Of what was answered to requests that may be sent again.
const ANSWERS_FOR: Duration = Duration::from_hours(24);

impl Store {
    /// Removes what is older than it is kept.
    pub(crate) async fn prune(&self) -> Result<(), StoreError> {
        let before = |kept: Duration| unix_millis() - kept.as_millis() as i64;
        let pruned = self.write(async |writing| {
            for (statement, kept) in [
                ("DELETE FROM operations WHERE at < $1", OPERATIONS_FOR),
                ("DELETE FROM events WHERE at < $1", EVENTS_FOR),
                ("DELETE FROM deployment_log_lines WHERE at < $1", EVENTS_FOR),
                ("DELETE FROM devices WHERE revoked_at < $1", REVOKED_FOR),
                ("DELETE FROM device_invites WHERE expires_at < $1", EVENTS_FOR),
                ("DELETE FROM idempotency WHERE at < $1", ANSWERS_FOR),
                ("DELETE FROM deployment_logs WHERE updated_at < $1", EVENTS_FOR),
            ] {
                sqlx::query(statement).bind(before(kept)).execute(&mut *writing).await?;
            }
            for table in ["rolling_updates", "rolling_update_apps"] {
                let delete = format!(
                    "DELETE FROM {table} WHERE operation NOT IN (SELECT number FROM operations)"
                );
                sqlx::query(AssertSqlSafe(delete)).execute(&mut *writing).await?;
            }
            sqlx::query(
                "DELETE FROM deployment_log_sources WHERE NOT EXISTS (SELECT 1
                   FROM deployment_logs g WHERE g.app = deployment_log_sources.app
                   AND g.number = deployment_log_sources.number)",
            )
            .execute(&mut *writing)
            .await?;
            // Whoever is further behind reads everything anew.
            sqlx::query("DELETE FROM record_sets WHERE data = '' AND revision <= $1")
                .bind(signed(revision(writing).await?) - CHANGES_KEPT)
                .execute(&mut *writing)
                .await?;
            Ok(())
        });
        pruned.await?;
        while self.remove_loose().await? {}
        Ok(())
    }
}
