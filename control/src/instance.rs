//! One instance as control has seen it: its container, its health, and what went wrong.

use std::{sync::LazyLock, time::Duration};

use weir_config::{Moment, SleepLevel};
use weir_deploy::{Container, ContainerState};

use crate::{
    action::Action,
    event::Death,
    failure::{Failure, FailureReason},
    health::Health,
};

/// One instance: its container, its health and what is being done to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Instance {
    pub(crate) container: Option<Container>,
    pub(crate) health: Health,
    /// The action in flight, if any.
    pub(crate) doing: Option<Action>,
    /// When an action last began or ended here: what was seen before that is out of date.
    pub(crate) changed_at: Moment,
    /// When the look began that was taken in last: they may end in another order.
    pub(crate) looked_at: Moment,
    /// Grows with every start of the process, so that a late probe of a former one is known.
    pub(crate) epoch: u64,
    /// Weir stopped it itself, so that its exit is no failure and a wake may start it.
    pub(crate) stopped_by_us: bool,
    /// When Weir last started it, or it was first seen, by the engine's clock. What died before
    /// that was another process.
    pub(crate) begun_at: i128,
    /// A death that came to be known while it is being started: which process it was is known
    /// when the start has ended.
    pub(crate) unplaced_death: Option<Death>,
    /// Whether its process has been ready since Weir last started it.
    pub(crate) was_ready: bool,
    /// Whether any process of it was ever ready: then it can serve again.
    pub(crate) proven: bool,
    /// Failures in a row since it was last ready.
    pub(crate) failures: u32,
    pub(crate) failure: Option<Failure>,
    /// The last times that its process ended by itself, the oldest first; zero for none.
    pub(crate) crashes: [Moment; 3],
    /// Nothing is tried again before this.
    pub(crate) retry_at: Option<Moment>,
    /// When it left the served snapshot.
    pub(crate) left_at: Option<Moment>,
    /// Requests in flight on it, as sampled before the plan.
    pub(crate) in_flight: u64,
}

/// The wait before a failed instance is tried again: doubles from one to the other.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// An instance that nothing is known of yet.
static UNSEEN: LazyLock<Instance> = LazyLock::new(Instance::default);

impl Instance {
    pub(crate) fn unseen() -> &'static Self {
        &UNSEEN
    }

    pub(crate) fn state(&self) -> Option<ContainerState> {
        self.container.as_ref().map(|container| container.state)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state() == Some(ContainerState::Running)
            && self.health.is_ready()
            && !self.is_leaving()
    }

    /// Whether it is being frozen or ended: it takes no request from then on, though it runs.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.doing, Some(Action::Pause(_) | Action::Stop { .. } | Action::Remove { .. }))
    }

    /// How deep it sleeps, if it does.
    pub(crate) fn sleeps(&self) -> Option<SleepLevel> {
        match self.state()? {
            ContainerState::Paused => Some(SleepLevel::Paused),
            ContainerState::Exited { .. } if self.stopped_by_us && self.failure.is_none() => {
                Some(SleepLevel::Stopped)
            }
            _ => None,
        }
    }

    pub(crate) fn is_backing_off(&self, now: Moment) -> bool {
        self.waits_until(now).is_some()
    }

    /// When it is tried again, if that is still to come.
    pub(crate) fn waits_until(&self, now: Moment) -> Option<Moment> {
        self.retry_at.filter(|at| now < *at)
    }

    /// Forgets its failures: the next one is the first.
    pub(crate) fn forgive(&mut self) {
        (self.failures, self.failure, self.retry_at) = (0, None, None);
    }

    pub(crate) fn failed_by(&self, reason: FailureReason) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.reason == reason)
    }

    /// Takes in the container as the engine has it.
    pub(crate) fn look(&mut self, container: Option<Container>, now: Moment) {
        let process = |container: &Container| (container.id.clone(), container.restarts);
        let same_process = match (&self.container, &container) {
            (Some(former), Some(latter)) => {
                process(former) == process(latter)
                    && (former.address, former.port) == (latter.address, latter.port)
            }
            _ => false,
        };
        let stays_up = container.as_ref().is_some_and(|container| {
            matches!(container.state, ContainerState::Running | ContainerState::Paused)
        });
        if !(same_process && stays_up) {
            self.restarted(now);
        }
        if let (None, Some(first_seen)) = (&self.container, &container) {
            self.begun_at = first_seen.started_at;
        }
        self.container = container;
    }

    pub(crate) fn died(&mut self, death: Death, now: Moment) {
        if matches!(self.doing, Some(Action::Start(_))) {
            self.unplaced_death = Some(death);
            return;
        }
        // Told late: of a container that is gone, while the one that takes its place has not begun;
        // of a process before the one that Weir started, or before the one that the engine has
        // started since and that is ready.
        let has_begun = |container: &Container| container.state != ContainerState::Created;
        if !self.container.as_ref().is_some_and(has_begun) {
            return;
        }
        let former = |container: &Container| death.at < container.started_at;
        let outlived = self.is_ready() && self.container.as_ref().is_some_and(former);
        if self.stopped_by_us || death.at < self.begun_at || outlived {
            return;
        }
        let failure = Failure {
            reason: FailureReason::InstanceExited,
            message: format!("the process exited with code {}", death.exit_code),
            exit_code: Some(death.exit_code),
            log_tail: death.log_tail,
        };
        self.fail(failure, now);
        self.crashes.rotate_left(1);
        self.crashes[2] = now;
        // One that was ready is started again by the engine at once; one that never was would only
        // fail again.
        if std::mem::take(&mut self.was_ready) {
            self.retry_at = None;
        }
    }

    /// Another process than before: what was known of the former one's health is void.
    pub(crate) fn restarted(&mut self, now: Moment) {
        self.epoch += 1;
        self.health = Health::Starting { since: now, error: None };
    }

    pub(crate) fn fail(&mut self, failure: Failure, now: Moment) {
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(10)).min(LONGEST_RETRY);
        self.failures += 1;
        self.failure = Some(failure);
        self.retry_at = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use weir_config::{HostName, InstanceId, Reach};

    use super::*;

    /// As when what was kept for a rollback is removed just before somebody wants it back.
    #[test]
    fn a_death_that_is_told_late_is_no_failure_of_the_container_that_came_after() {
        let id = InstanceId {
            app: "shop".parse().unwrap(),
            deployment: 1,
            ordinal: 0,
            host: HostName::local(),
        };
        let container = |state, started_at| Container {
            instance: id.clone(),
            id: "second".to_owned(),
            state,
            started_at,
            address: None,
            reach: Reach::Direct,
            port: 80,
            restarts: 0,
        };
        let death = |at| Death { at, exit_code: 143, log_tail: Vec::new() };
        let now = Moment(1_000);
        let mut instance = Instance::default();
        instance.died(death(5), now);
        instance.look(Some(container(ContainerState::Created, 0)), now);
        instance.died(death(5), now);
        assert_eq!(instance.failure, None);
        instance.look(Some(container(ContainerState::Running, 9)), now);
        instance.died(death(10), now);
        assert_eq!(instance.failure.unwrap().exit_code, Some(143));
    }
}
