//! What the API asks of failover.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::sync::{mpsc, oneshot};
use weir_config::{FailoverMode, FailoverName, Moment, Shares, Steering, TargetName};
use weir_failover::{Decision, Figures, Health, Hold, Incident, Phase, Standing};

/// Questions and orders that wait.
const QUEUE: usize = 64;

/// Failover as the API reaches it.
#[derive(Clone, Debug)]
pub(crate) struct FailoverHandle {
    commands: mpsc::Sender<(FailoverName, Command)>,
}

/// What is asked of the controller of one policy.
#[derive(Debug)]
pub(super) enum Command {
    Status(oneshot::Sender<FailoverStatus>),
    Order(FailoverOrder, oneshot::Sender<Result<FailoverStatus, NotObeyed>>),
    Simulate(Simulation, oneshot::Sender<Result<Simulated, NotObeyed>>),
}

pub(super) type Commands = mpsc::Receiver<(FailoverName, Command)>;

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FailoverOrder {
    /// Everything stays as it is, for so long.
    Freeze(Duration),
    /// All clients go to this target, for so long, whatever is known of it.
    Force(TargetName, Duration),
    /// Neither any more.
    Release,
}

/// Why an order has come to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotObeyed {
    #[error("there is no failover policy of this name, or it has not been taken in yet")]
    NoPolicy,
    #[error("the policy has no target `{0}`")]
    NoTarget(TargetName),
    /// It is obeyed, but may be forgotten with the next restart.
    #[error("the order is obeyed, but the store did not take it down: a restart may forget it")]
    NotKept,
}

/// How a policy is. Moments are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailoverStatus {
    pub(crate) mode: FailoverMode,
    pub(crate) phase: Phase,
    pub(crate) hold: Hold,
    /// What the law says; served, unless the mode is another than `auto`.
    pub(crate) decided: Steering,
    pub(crate) served: Steering,
    /// In the policy's order.
    pub(crate) targets: Vec<TargetStatus>,
    /// The incident that is going on, else the last one.
    pub(crate) incident: Option<IncidentStatus>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TargetStatus {
    pub(crate) name: TargetName,
    pub(crate) health: Health,
    pub(crate) standing: Standing,
    /// Of those served, in ten-thousandths.
    pub(crate) share: u16,
    pub(crate) addresses: Vec<IpAddr>,
    /// When it was asked last, and why that failed, if it did.
    pub(crate) asked: Option<Moment>,
    pub(crate) error: Option<String>,
    /// After how long it usually answers a probe.
    pub(crate) round_trip: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IncidentStatus {
    pub(crate) opened: Moment,
    pub(crate) closed: Option<Moment>,
    pub(crate) figures: Figures,
    /// What was decided and when, in words.
    pub(crate) lines: Vec<(Moment, &'static str, String)>,
}

/// What is to be tried out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Simulation {
    /// Of each of these targets, whether it is well; the others are as they are.
    pub(crate) targets: BTreeMap<TargetName, bool>,
    /// For whom the answers are wanted.
    pub(crate) clients: Vec<IpAddr>,
}

/// What would come of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Simulated {
    pub(crate) shares: Shares,
    pub(crate) ttl: Duration,
    /// In words.
    pub(crate) decisions: Vec<String>,
    /// Where each client would go; `None` if nobody has a share.
    pub(crate) clients: Vec<(IpAddr, Option<TargetName>)>,
}

impl FailoverHandle {
    pub(super) fn new() -> (Self, Commands) {
        let (commands, received) = mpsc::channel(QUEUE);
        (Self { commands }, received)
    }

    /// How a policy is; `None` if there is none.
    pub(crate) async fn status(&self, policy: &FailoverName) -> Option<FailoverStatus> {
        self.ask(policy, Command::Status).await
    }

    /// Gives an order; it is kept before this returns, and holds over restarts.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) async fn order(
        &self,
        policy: &FailoverName,
        order: FailoverOrder,
    ) -> Result<FailoverStatus, NotObeyed> {
        let obeyed = self.ask(policy, |reply| Command::Order(order, reply)).await;
        obeyed.unwrap_or(Err(NotObeyed::NoPolicy))
    }

    /// What the law would decide; nothing is changed.
    ///
    /// # Errors
    /// There is no such policy, or no such target of it.
    pub(crate) async fn simulate(
        &self,
        policy: &FailoverName,
        simulation: Simulation,
    ) -> Result<Simulated, NotObeyed> {
        let simulated = self.ask(policy, |reply| Command::Simulate(simulation, reply)).await;
        simulated.unwrap_or(Err(NotObeyed::NoPolicy))
    }

    async fn ask<T>(
        &self,
        policy: &FailoverName,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send((policy.clone(), command(reply))).await.ok()?;
        answer.await.ok()
    }
}

impl IncidentStatus {
    pub(super) fn of(
        incident: &Incident,
        line: impl Fn(&Decision) -> Option<(&'static str, String)>,
    ) -> Self {
        let decided = incident
            .steps
            .iter()
            .flat_map(|step| step.decisions.iter().map(move |decision| (step.at, decision)));
        let lines = decided.filter_map(|(at, decision)| {
            let (action, detail) = line(decision)?;
            Some((at, action, detail))
        });
        Self {
            opened: incident.opened,
            closed: incident.closed,
            figures: incident.figures(),
            lines: lines.collect(),
        }
    }
}
