//! Waiting, with a limit, until the loop has caught up.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use weir_config::{AppName, Moment, ShardName, Span};

use super::{
    ApiState,
    problem::ApiProblem,
    wire::{AppResource, AppStatus, Phase, ShardResource, ShardStatus},
};
use crate::{
    reconciler::World,
    status,
    store::{AppRecord, ShardRecord},
    time::rfc3339,
};

/// A longer wait is asked for again: connections that say nothing for long get lost.
const LONGEST: Duration = Duration::from_secs(60);
/// A write is answered once it is served, or after this: the loop may be behind, the write holds.
const CATCH_UP: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    /// Answer only when the object is settled, or after this long (`30s`; at most `60s`).
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
    /// Waits until the loop has taken in an app's revision and, if asked for, until `done`; then
    /// shows the app as it is.
    pub(crate) async fn settle(
        &self,
        record: AppRecord,
        query: &WaitQuery,
        done: impl Fn(&AppStatus) -> bool,
    ) -> Result<AppResource, ApiProblem> {
        let limit = query.limit()?;
        let name: AppName = parse(&record.manifest.name)?;
        self.caught_up(record.meta.revision).await;
        if let Some(limit) = limit {
            let is_done = |world: &World| match world.desired.apps.get(&name) {
                Some(app) => {
                    let (now, port) = (Moment::now(), self.https_port);
                    let status = status::app_status(app, world, &self.activity, now, port);
                    app.generation >= record.meta.generation && done(&status)
                }
                None => world.desired.revision >= record.meta.revision,
            };
            self.wait_until(limit, is_done).await;
            // Somebody else may have changed it meanwhile; its status is of what it is now.
            if let Some(now) = self.store.app(&name).await? {
                return Ok(self.resource(&self.world(), now));
            }
        }
        Ok(self.resource(&self.world(), record))
    }

    /// Waits as [`Self::settle`] does, until it is known how the members of a shard are.
    pub(crate) async fn settle_shard(
        &self,
        record: ShardRecord,
        query: &WaitQuery,
    ) -> Result<ShardResource, ApiProblem> {
        let limit = query.limit()?;
        let name: ShardName = parse(&record.manifest.name)?;
        self.caught_up(record.meta.revision).await;
        if let Some(limit) = limit {
            let is_done = |world: &World| self.shard_status(world, &record).phase.is_settled();
            self.wait_until(limit, is_done).await;
            if let Some(now) = self.store.shard(&name).await? {
                return Ok(self.shard_resource(&self.world(), now));
            }
        }
        Ok(self.shard_resource(&self.world(), record))
    }

    /// Late is not wrong: what is shown says how far the loop is.
    pub(super) async fn caught_up(&self, revision: u64) {
        let is_served = |world: &World| {
            world.desired.revision >= revision && world.observed.served.revision >= revision
        };
        self.wait_until(CATCH_UP, is_served).await;
    }

    async fn wait_until(&self, limit: Duration, mut is_done: impl FnMut(&World) -> bool) {
        let mut world = self.world.clone();
        let done = world.wait_for(|world: &Arc<World>| is_done(world));
        // The caller looks at what there is, in time or not.
        let _ = tokio::time::timeout(limit, done).await;
    }

    /// An app with its status in this world.
    pub(crate) fn resource(&self, world: &World, record: AppRecord) -> AppResource {
        let known = record.manifest.name.parse::<AppName>().ok();
        let known = known.and_then(|name| world.desired.apps.get(&name).cloned());
        let status = match known {
            Some(app) => {
                let (now, port) = (Moment::now(), self.https_port);
                status::app_status(&app, world, &self.activity, now, port)
            }
            None => not_yet_seen(&record),
        };
        AppResource {
            kind: record.manifest.kind,
            name: record.manifest.name,
            generation: record.meta.generation,
            revision: record.meta.revision,
            created_at: rfc3339(record.meta.created_at),
            updated_at: rfc3339(record.meta.updated_at),
            spec: record.manifest.spec,
            status,
        }
    }

    /// A shard with its status in this world.
    pub(crate) fn shard_resource(&self, world: &World, record: ShardRecord) -> ShardResource {
        ShardResource {
            status: self.shard_status(world, &record),
            kind: record.manifest.kind,
            name: record.manifest.name,
            generation: record.meta.generation,
            revision: record.meta.revision,
            created_at: rfc3339(record.meta.created_at),
            updated_at: rfc3339(record.meta.updated_at),
            spec: record.manifest.spec,
        }
    }

    fn shard_status(&self, world: &World, record: &ShardRecord) -> ShardStatus {
        let known = record.manifest.name.parse::<ShardName>().ok();
        let known = known.and_then(|name| world.desired.shards.get(&name));
        match known.filter(|_| world.desired.revision >= record.meta.revision) {
            Some(shard) => {
                let generation = record.meta.generation;
                status::shard_status(shard, generation, &world.observed, &self.activity)
            }
            // Written a moment ago.
            None => ShardStatus {
                phase: Phase::Progressing,
                observed_generation: 0,
                ready_members: 0,
                members: Vec::new(),
            },
        }
    }
}

fn parse<T: std::str::FromStr<Err = String>>(name: &str) -> Result<T, ApiProblem> {
    name.parse().map_err(|why| ApiProblem::bad_request("bad_name", why))
}

/// The status of an app that was written a moment ago.
fn not_yet_seen(record: &AppRecord) -> AppStatus {
    let deployment = record.deployments.first();
    AppStatus {
        phase: Phase::Progressing,
        observed_generation: 0,
        url: String::new(),
        deployment: deployment.map(|deployment| deployment.number),
        live_deployment: None,
        image: deployment.map(|deployment| deployment.template.image.clone()),
        ready_instances: 0,
        desired_instances: record.manifest.spec.instances,
        requests_in_flight: 0,
        upstreams: Vec::new(),
        conditions: Vec::new(),
        failure: None,
    }
}
