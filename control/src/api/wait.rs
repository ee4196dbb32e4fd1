//! Waiting, with a limit, until the loop has caught up.

use std::{sync::Arc, time::Duration};

use axum::http::HeaderMap;
use serde::Deserialize;
use weir_config::Span;

use super::{ApiState, call::Shown, problem::ApiProblem};
use crate::{reconciler::World, store::Record};

/// A longer wait is asked for again: connections that say nothing for long get lost.
const LONGEST: Duration = Duration::from_secs(60);
/// A write is answered once it is served, or after this: the loop may be behind, the write holds.
pub(super) const CATCH_UP: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// Answer only when the object is settled, or after this long (`30s`; at most `60s`).
    wait: Option<String>,
}

impl WaitQuery {
    /// What is asked for in the query, else by `Prefer: wait=SECONDS` (RFC 7240).
    pub(super) fn or_preferred(self, headers: &HeaderMap) -> Self {
        let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        let mut preferences = preferences.flat_map(|value| value.split(','));
        let preferred = preferences.find_map(|preference| {
            let seconds: u64 = preference.trim().strip_prefix("wait=")?.parse().ok()?;
            Some(format!("{seconds}s"))
        });
        Self { wait: self.wait.or(preferred) }
    }

    pub(super) fn limit(&self) -> Result<Option<Duration>, ApiProblem> {
        let Some(text) = &self.wait else { return Ok(None) };
        let span = Span::parse(text).map_err(|why| ApiProblem::bad_request("bad_wait", why))?;
        Ok(Some(span.0.min(LONGEST)))
    }
}

impl ApiState {
    /// Waits until the loop has taken in an object's revision and, with a `limit`, until it is
    /// `done`; then gives it as it is stored by then.
    pub(super) async fn settle<O: Shown>(
        &self,
        record: Record<O>,
        limit: Option<Duration>,
        done: impl Fn(&O::Status) -> bool,
    ) -> Result<Record<O>, ApiProblem> {
        let revision = record.meta.revision;
        self.caught_up(revision).await;
        let Some(limit) = limit else { return Ok(record) };
        self.wait_until(limit, |world| {
            let status = || O::status(&record, self, world);
            // One that is gone by then is not to be waited for.
            world.desired.revision >= revision && status().is_none_or(|status| done(&status))
        })
        .await;
        // Somebody else may have changed it meanwhile; its status is of what it is now.
        Ok(self.store.find(&record.name).await?.unwrap_or(record))
    }

    /// Waits until the loop serves a revision. Late is not wrong: what is shown says how far it is.
    pub(super) async fn caught_up(&self, revision: u64) {
        self.wait_until(CATCH_UP, |world| {
            world.desired.revision >= revision && world.observed.served.revision >= revision
        })
        .await;
    }

    pub(super) async fn wait_until(
        &self,
        limit: Duration,
        mut is_done: impl FnMut(&World) -> bool,
    ) {
        let mut world = self.world.clone();
        let done = world.wait_for(|world: &Arc<World>| is_done(world));
        // The caller looks at what there is, in time or not.
        let _ = tokio::time::timeout(limit, done).await;
    }
}
