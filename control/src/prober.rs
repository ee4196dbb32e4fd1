//! Probes instances and members, and tells the loop when a verdict changes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};
use weir_config::{EndpointId, HealthCheck};
use weir_deploy::Provider;

use crate::{
    engines::Providers, event::Event, plan::ProbeTarget, probe::Question, subject::Subject,
};

/// A process that has just begun is asked this soon again; a wake waits for it.
const FIRST_PACE: Duration = Duration::from_millis(2);
/// And an instance never slower than this until it is ready.
const STARTING_PACE: Duration = Duration::from_millis(250);
/// Two probes of an endpoint that was ready are at least this far apart.
const LEAST_PACE: Duration = Duration::from_secs(1);

/// The probes under way: one task for each instance that runs and for each member.
#[derive(Debug)]
pub(crate) struct Probers {
    running: BTreeMap<Subject, BTreeMap<EndpointId, Prober>>,
    events: mpsc::WeakSender<Event>,
    /// How instances are reached.
    hosts: Providers,
}

#[derive(Debug)]
struct Prober {
    target: ProbeTarget,
    now: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probers {
    pub(crate) fn new(events: &mpsc::Sender<Event>, hosts: Providers) -> Self {
        Self { running: BTreeMap::new(), events: events.downgrade(), hosts }
    }

    /// Makes the probes under way of one subject exactly these.
    pub(crate) fn keep(&mut self, subject: Subject, targets: BTreeMap<EndpointId, ProbeTarget>) {
        let mut running = self.running.remove(&subject).unwrap_or_default();
        running.retain(|id, prober| {
            targets.get(id).is_some_and(|target| prober.target.is_same_as(target))
        });
        for (id, target) in targets {
            running.entry(id.clone()).or_insert_with(|| self.start(id, target));
        }
        if !running.is_empty() {
            self.running.insert(subject, running);
        }
    }

    /// Asks an endpoint at once instead of at its next turn.
    pub(crate) fn probe_now(&self, endpoint: &EndpointId) {
        let running = self.running.get(&Subject::from(endpoint));
        if let Some(prober) = running.and_then(|running| running.get(endpoint)) {
            prober.now.notify_one();
        }
    }

    fn start(&self, endpoint: EndpointId, target: ProbeTarget) -> Prober {
        let now = Arc::new(Notify::new());
        let (events, hosts) = (self.events.clone(), self.hosts.clone());
        let task = tokio::spawn(run(endpoint, target.clone(), events, hosts, now.clone()));
        Prober { target, now, task }
    }
}

async fn run(
    endpoint: EndpointId,
    target: ProbeTarget,
    events: mpsc::WeakSender<Event>,
    hosts: Providers,
    now: Arc<Notify>,
) {
    let question = Question::new(&target.check.probe);
    let mut verdict = Verdict::new(target.ready);
    let mut pace = FIRST_PACE;
    // A member has no deadline to be ready by, and may be away for days.
    let interval = target.check.interval;
    let slowest = match endpoint {
        EndpointId::Instance(_) => STARTING_PACE.min(interval),
        EndpointId::Member(_) => interval,
    };
    loop {
        let outcome = match &question {
            Ok(question) => {
                let host = endpoint.instance().map(|instance| &instance.host);
                let host = host.and_then(|host| hosts.load().get(host).cloned());
                probe(question, target.address, host.as_deref(), target.check.timeout).await
            }
            Err(impossible) => Err(impossible.clone()),
        };
        if let Some(outcome) = verdict.take(outcome, &target.check) {
            let Some(events) = events.upgrade() else { return };
            let epoch = target.epoch;
            let probed = Event::Probed { endpoint: endpoint.clone(), epoch, outcome };
            if events.send(probed).await.is_err() {
                return;
            }
        }
        if verdict.ready || verdict.was_ready {
            pace = interval;
        } else {
            pace = pace.mul_f64(1.3).min(slowest);
        }
        // Asked for or not, it is probed.
        let _ = timeout(pace, asked(&now)).await;
    }
}

/// Being asked only brings the next probe forward, and not by more than this allows: a burst of
/// requests that an endpoint cannot take must not use up its failures in a moment.
async fn asked(now: &Notify) {
    tokio::time::sleep(LEAST_PACE).await;
    now.notified().await;
}

/// What a row of outcomes means: passes in a row make an endpoint ready, failures in a row unready.
#[derive(Debug)]
struct Verdict {
    ready: bool,
    was_ready: bool,
    /// Outcomes in a row that speak against the verdict.
    against: u16,
    last_error: Option<String>,
}

impl Verdict {
    fn new(ready: bool) -> Self {
        Self { ready, was_ready: ready, against: 0, last_error: None }
    }

    /// Takes an outcome in; returns what is worth telling: a changed verdict, or a new reason why
    /// it is not yet ready.
    fn take(
        &mut self,
        outcome: Result<(), String>,
        check: &HealthCheck,
    ) -> Option<Result<(), String>> {
        let contrary = outcome.is_ok() != self.ready;
        self.against = if contrary { self.against + 1 } else { 0 };
        let needed = if self.ready { check.fall } else { check.rise };
        if contrary && self.against >= needed {
            self.ready = !self.ready;
            self.was_ready |= self.ready;
            self.against = 0;
            self.last_error = outcome.clone().err();
            return Some(outcome);
        }
        let error = outcome.err().filter(|_| !self.ready)?;
        if self.last_error.as_ref() == Some(&error) {
            return None;
        }
        self.last_error = Some(error.clone());
        Some(Err(error))
    }
}

async fn probe(
    question: &Question,
    address: SocketAddr,
    host: Option<&dyn Provider>,
    limit: Duration,
) -> Result<(), String> {
    let late = |_| Err(format!("no answer from {address} within {}", weir_config::Span(limit)));
    timeout(limit, question.ask(address, host)).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use weir_config::Probe;

    use super::*;

    fn check(rise: u16, fall: u16, outcomes: &str, told: &str) {
        let check = HealthCheck {
            probe: Probe::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise,
            fall,
        };
        let mut verdict = Verdict::new(false);
        let heard: String = outcomes
            .chars()
            .map(|outcome| match outcome {
                '+' => Ok(()),
                error => Err(error.to_string()),
            })
            .map(|outcome| match verdict.take(outcome, &check) {
                None => '.',
                Some(Ok(())) => '+',
                Some(Err(_)) => '-',
            })
            .collect();
        assert_eq!(heard, told, "{outcomes}");
    }

    #[test]
    fn a_verdict_changes_after_enough_outcomes_in_a_row() {
        check(1, 3, "+", "+");
        check(2, 3, "+x++", ".-.+");
        check(1, 3, "+xx+xxx", "+.....-");
        check(1, 1, "+x+", "+-+");
    }

    #[test]
    fn while_it_is_not_ready_each_new_reason_is_told_once() {
        check(1, 3, "xxxyx+", "-..--+");
    }
}
