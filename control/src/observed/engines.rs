//! What the engines tell, and the probes.

use std::{collections::BTreeSet, net::SocketAddr};

use weir_config::{
    DeploymentState, Desired, Engine, HostName, InstanceId, Moment, ShardName, SleepLevel,
};
use weir_deploy::{Container, ContainerState, EngineInfo, Listing, ProviderError};

use super::{AppState, Observed};
use crate::{
    action::Action,
    agenda::Agenda,
    failure::{ActionError, Failure, FailureReason},
    health::Health,
    instance::Instance,
    plan::placement::may_run_on,
    served::{endpoint, serves},
};

impl Observed {
    pub(super) fn listed(
        &mut self,
        host: &HostName,
        info: EngineInfo,
        listing: Listing,
        began: Moment,
        now: Moment,
        agenda: &mut Agenda,
    ) {
        // One that is no host any more.
        let Some(seen) = self.hosts.get_mut(host) else { return };
        let (first_time, was_there) = (!seen.is_listed(), seen.answers());
        seen.listed(info, now);
        let out_of_reach = |id: &InstanceId, instance: &Instance| {
            id.host == *host && instance.failed_by(FailureReason::EngineUnreachable)
        };
        if !was_there || self.instances.iter().any(|(id, instance)| out_of_reach(id, instance)) {
            agenda.touch_everything();
        }
        self.change_where(out_of_reach, |_, instance| instance.forgive());
        if !was_there {
            // While it was away nothing could pass a check: that is no reason to end it.
            self.change_where(|id, _| id.host == *host, |_, instance| instance.health.excuse(now));
        }
        let found = listing.containers.iter().map(|container| &container.instance);
        let there: BTreeSet<_> = found.chain(&listing.unknown).collect();
        let ids = self.instances.keys();
        let is_missing = |id: &&InstanceId| id.host == *host && !there.contains(id);
        let missing: Vec<_> = ids.filter(is_missing).cloned().collect();
        for id in missing {
            if self.seen(&id, None, began, now) {
                agenda.touch_instance(&id);
            }
        }
        for container in listing.containers {
            let id = container.instance.clone();
            let adopted = first_time.then(|| self.adopt(&container, now));
            if self.seen(&id, Some(container), began, now) {
                agenda.touch_instance(&id);
            }
            if let Some(health) = adopted {
                let instance = self.instances.entry(id).or_default();
                instance.was_ready = matches!(health, Health::Ready { .. });
                instance.proven = instance.was_ready;
                instance.health = health;
            }
        }
        if first_time {
            self.find_sleepers();
        }
    }

    /// Leaves out of what a host lists what only it says is ours.
    pub(super) fn leave_out_strays(&self, listing: &mut Listing, desired: &Desired) {
        let is_stray = |container: &Container| self.is_stray(&container.instance, desired);
        let listed = std::mem::take(&mut listing.containers);
        let (strays, ours): (Vec<_>, _) = listed.into_iter().partition(is_stray);
        listing.containers = ours;
        if let Some(first) = strays.first() {
            let (count, first) = (strays.len(), &first.instance);
            tracing::warn!(count, %first, "a device lists what may not run there: left out");
        }
    }

    /// Whether nobody but a device says that it has an instance: its app may not run there, and it is
    /// neither known to be there nor sent requests. A device may be in the wrong hands: what it says
    /// of other apps is not to change anything for them.
    pub(super) fn is_stray(&self, id: &InstanceId, desired: &Desired) -> bool {
        let host = desired.hosts.get(&id.host).filter(|host| host.engine == Engine::Device);
        let (Some(host), Some(app)) = (host, desired.apps.get(&id.app)) else { return false };
        // Which hosts a shard has that cannot be read is not known.
        let is_known = |shard: &&ShardName| !desired.unreadable_shards.contains(*shard);
        let shard = app.app.placement.shard.as_ref();
        shard.iter().all(is_known)
            && !may_run_on(desired, app, host)
            && !self.instances.contains_key(id)
            && !serves(&self.served, &id.clone().into())
    }

    /// An instance that the last good snapshot sends requests to is ready until a probe says
    /// otherwise; so is a paused one, because only ready ones are paused.
    fn adopt(&self, container: &Container, now: Moment) -> Health {
        let served =
            endpoint(&self.served, &container.instance.clone().into()).filter(|endpoint| {
                let address = container.address.map(|ip| SocketAddr::new(ip, container.port));
                Some(endpoint.address) == address
            });
        match served {
            Some(endpoint) => Health::Ready { since: endpoint.ready_since },
            None if container.state == ContainerState::Paused => Health::Ready { since: now },
            None => Health::Starting { since: now, error: None },
        }
    }

    /// After a restart: an app with a paused container of its live deployment was asleep, and a
    /// container that has ended while its app slept was stopped by us. Those of other deployments
    /// are kept for a rollback. If it was on its way out of sleep, nobody knows any more who ended
    /// one; what may sleep may also be woken.
    fn find_sleepers(&mut self) {
        for (id, instance) in &self.instances {
            // Not of an app that is gone: its containers only wait to be removed.
            let Some(state) = self.apps.get_mut(&id.app) else { continue };
            let live = state.stage.filter(|stage| stage.state == DeploymentState::Live);
            let is_live = live.is_some_and(|live| live.deployment == id.deployment);
            let is_paused = instance.state() == Some(ContainerState::Paused);
            if is_live && is_paused && state.asleep.is_none() {
                state.asleep = Some(SleepLevel::Paused);
            }
        }
        let apps = self.apps.clone();
        let is = |id: &InstanceId, so: fn(&AppState) -> bool| apps.get(&id.app).is_some_and(so);
        self.change_where(
            |id, instance| {
                matches!(instance.state(), Some(ContainerState::Exited { .. }))
                    && is(id, |app| app.may_sleep || app.asleep.is_some())
            },
            |id, instance| {
                instance.stopped_by_us = true;
                instance.proven |= is(id, |app| app.asleep.is_some());
            },
        );
    }

    /// Takes in a container as it was seen; returns whether that was news.
    pub(super) fn seen(
        &mut self,
        id: &InstanceId,
        container: Option<Container>,
        began: Moment,
        now: Moment,
    ) -> bool {
        if container.is_none() && !self.instances.contains_key(id) {
            return false;
        }
        let instance = self.instances.entry(id.clone()).or_default();
        // What an action is changing, or has changed since the look began, is not to be unlearnt.
        if instance.doing.is_some() || instance.changed_at >= began || instance.looked_at > began {
            return false;
        }
        instance.looked_at = began;
        let is_news = instance.container != container;
        instance.look(container, now);
        // One that could not be made keeps its failure, and with it the wait before the next try.
        if instance.container.is_none() && instance.failure.is_none() {
            self.instances.remove(id);
        }
        is_news
    }

    pub(super) fn done(
        &mut self,
        action: &Action,
        result: Result<Option<Container>, ActionError>,
        now: Moment,
    ) {
        let id = action.instance();
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.doing = None;
        instance.changed_at = now;
        match result {
            Ok(container) => {
                if let (Action::Start(_), Some(started)) = (action, &container) {
                    instance.begun_at = started.started_at;
                    instance.stopped_by_us = false;
                }
                instance.look(container, now);
            }
            Err(ActionError::Engine(ProviderError::NoContainer(_))) => instance.look(None, now),
            Err(error) => instance.fail(Failure::of_action(action, &error), now),
        }
        if let Some(death) = instance.unplaced_death.take() {
            instance.died(death, now);
        }
        if instance.container.is_none() && matches!(action, Action::Remove { .. }) {
            self.instances.remove(id);
        }
    }

    pub(super) fn probed(
        &mut self,
        id: &InstanceId,
        epoch: u64,
        outcome: Result<(), String>,
        now: Moment,
    ) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        // Nor is a verdict on a process that is being frozen or ended of any worth.
        if instance.epoch != epoch || instance.is_leaving() {
            return;
        }
        instance.health.take(outcome, now);
        if instance.health.is_ready() {
            (instance.was_ready, instance.proven) = (true, true);
            instance.forgive();
        }
    }
}
