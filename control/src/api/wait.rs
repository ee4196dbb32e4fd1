//! Waiting, with a limit, until the loop has caught up.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use weir_config::{AppName, Moment, Span};

use super::{
    ApiState,
    problem::ApiProblem,
    wire::{AppResource, AppStatus, Phase},
};
use crate::{reactor::World, status, store::AppRecord, time::rfc3339};

/// A longer wait is asked for again: connections that say nothing for long get lost.
const LONGEST: Duration = Duration::from_secs(60);
/// A write is answered once it is served, or after this: the loop may be behind, the write holds.
const CATCH_UP: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// Answer only when the app is settled, or after this long (`30s`; at most `60s`).
    wait: Option<String>,
}

impl WaitQuery {
    fn limit(&self) -> Result<Option<Duration>, ApiProblem> {
        let Some(text) = &self.wait else { return Ok(None) };
        let span = Span::parse(text).map_err(|why| ApiProblem::bad_request("bad_wait", why))?;
        Ok(Some(span.0.min(LONGEST)))
    }
}

impl ApiState {
    /// Waits until the loop has taken in a revision and, if asked for, until `done`; then shows
    /// the app as it is.
    pub(crate) async fn settle(
        &self,
        record: AppRecord,
        query: &WaitQuery,
        done: impl Fn(&AppStatus) -> bool,
    ) -> Result<AppResource, ApiProblem> {
        let limit = query.limit()?;
        let name: AppName = record
            .manifest
            .name
            .parse()
            .map_err(|why: String| ApiProblem::bad_request("bad_name", why))?;
        let mut world = self.world.clone();
        let caught_up = world.wait_for(|world| {
            world.desired.revision >= record.revision
                && world.observed.served.revision >= record.revision
        });
        // Late is not wrong: what is shown says how far the loop is.
        let _ = tokio::time::timeout(CATCH_UP, caught_up).await;
        if let Some(limit) = limit {
            let is_done = |world: &Arc<World>| match world.desired.apps.get(&name) {
                Some(app) => {
                    let status =
                        status::app_status(app, &world.observed, Moment::now(), self.https_port);
                    app.generation >= record.generation && done(&status)
                }
                None => world.desired.revision >= record.revision,
            };
            let _ = tokio::time::timeout(limit, world.wait_for(is_done)).await;
            // Somebody else may have changed it meanwhile; its status is of what it is now.
            if let Some(now) = self.store.app(&name).await? {
                return Ok(self.resource(&self.world(), now));
            }
        }
        Ok(self.resource(&self.world(), record))
    }

    /// An app with its status in this world.
    pub(crate) fn resource(&self, world: &World, record: AppRecord) -> AppResource {
        let known = record.manifest.name.parse::<AppName>().ok();
        let known = known.and_then(|name| world.desired.apps.get(&name).cloned());
        let status = match known {
            Some(app) => status::app_status(&app, &world.observed, Moment::now(), self.https_port),
            None => not_yet_seen(&record),
        };
        AppResource {
            kind: record.manifest.kind,
            name: record.manifest.name,
            generation: record.generation,
            revision: record.revision,
            created_at: rfc3339(record.created_at),
            updated_at: rfc3339(record.updated_at),
            spec: record.manifest.spec,
            status,
        }
    }
}

/// The status of an app that was written a moment ago.
fn not_yet_seen(record: &AppRecord) -> AppStatus {
    AppStatus {
        phase: Phase::Progressing,
        observed_generation: 0,
        url: String::new(),
        deployment: record.deployment.number,
        image: record.deployment.template.image.clone(),
        ready_instances: 0,
        desired_instances: record.manifest.spec.instances,
        requests_in_flight: 0,
        conditions: Vec::new(),
        failure: None,
    }
}
