//! What follows at once from a change of what is meant.

use std::sync::Arc;

use weir_config::{
    Answers, AppName, DesiredApp, Host, HostName, Member, MemberOf, Moment, ShardName, Source,
};

use super::Observed;
use crate::{host::HostSeen, served::own_pool, transition::Stage};

impl Observed {
    /// Notes a changed or new app: a change is verified awake, and tried at once.
    pub(crate) fn app_changed(
        &mut self,
        former: Option<&DesiredApp>,
        app: &DesiredApp,
        now: Moment,
    ) {
        let upstreams = match &app.app.source {
            Source::Upstreams(members) => members.as_slice(),
            Source::Image(_) | Source::Shards(_) | Source::Failover(_) => &[],
        };
        let served = own_pool(&self.served, &app.app.name).map(Arc::as_ref);
        self.members.set(&MemberOf::App(app.app.name.clone()), upstreams, served, now);
        let state = self.apps.entry(app.app.name.clone()).or_default();
        state.is_recording = false;
        state.may_sleep = app.app.sleep.is_some();
        let stage = app.target().map(Stage::of);
        if state.stage != stage {
            (state.stage, state.answers, state.answers_before) = (stage, Answers::default(), None);
        }
        let version = |app: &DesiredApp| (app.generation, app.target().map(|t| t.number));
        if former.is_none_or(|former| version(former) == version(app)) {
            state.awake_since = state.awake_since.max(now);
            return;
        }
        state.asleep = None;
        state.awake_since = now;
        self.retry_at_once(&app.app.name);
    }

    pub(crate) fn app_removed(&mut self, app: &AppName, now: Moment) {
        self.apps.remove(app);
        self.members.set(&MemberOf::App(app.clone()), &[], None, now);
        self.retry_at_once(app);
    }

    pub(crate) fn shard_changed(&mut self, name: &ShardName, members: &[Member], now: Moment) {
        let served = self.served.shard(name).map(Arc::as_ref);
        self.members.set(&MemberOf::Shard(name.clone()), members, served, now);
    }

    /// Notes a new, changed or removed host; `may_hold` says whether it was one before this process
    /// began. What was on one that is removed is nobody's business any more.
    pub(crate) fn host_changed(
        &mut self,
        name: &HostName,
        host: Option<&Host>,
        may_hold: bool,
        now: Moment,
    ) {
        if host.is_some() {
            self.hosts.entry(name.clone()).or_insert_with(|| HostSeen::new(may_hold, now));
            return;
        }
        self.hosts.remove(name);
        let of_host = self.instances.keys().filter(|id| id.host == *name).cloned();
        for id in of_host.collect::<Vec<_>>() {
            self.instances.remove(&id);
        }
    }

    fn retry_at_once(&mut self, app: &AppName) {
        self.change_where(
            |id, instance| id.app == *app && instance.failure.is_some(),
            |_, instance| instance.forgive(),
        );
    }
}
