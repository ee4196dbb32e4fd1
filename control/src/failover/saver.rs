//! Writes down what a controller has decided, off its path: the state before that is served, then
//! the incident for whoever reads it.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use weir_config::{FailoverName, Moment, Steering};

use crate::{
    incidents::{Key, Rule},
    store::Store,
};

/// After the store has failed.
const RETRY: Duration = Duration::from_secs(1);
/// Lines of incidents that wait to be written, of one policy.
const MOST_LINES: usize = 200;
/// An incident opens a moment after its first line; one that does not never will.
const LINE_WAITS: Duration = Duration::from_secs(30);
const QUEUE: usize = 64;

/// A controller's state; the latest is written, and those before it need not be.
#[derive(Clone, Debug)]
pub(super) struct ToSave {
    pub(super) number: u64,
    pub(super) kept: String,
    pub(super) steering: Steering,
}

/// What is written when there is time.
#[derive(Debug)]
pub(super) enum Record {
    /// An incident as far as it has come.
    Incident { opened: Moment, closed: Option<Moment>, text: String },
    /// A line of its record, for people.
    Line { action: &'static str, detail: String },
}

/// One policy's way to the store.
#[derive(Debug)]
pub(super) struct Saver {
    states: watch::Sender<Option<ToSave>>,
    /// The last one that is written.
    pub(super) saved: watch::Receiver<Option<(u64, Steering)>>,
    records: mpsc::Sender<Record>,
    number: u64,
}

impl Saver {
    /// With the task that writes, until this is dropped.
    pub(super) fn new(
        store: Store,
        policy: FailoverName,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (states, to_save) = watch::channel(None);
        let (told, saved) = watch::channel(None);
        let (records, recorded) = mpsc::channel(QUEUE);
        let saver = Self { states, saved, records, number: 0 };
        (saver, write(store, policy, to_save, told, recorded))
    }

    /// Has a state written; returns its number.
    pub(super) fn save(&mut self, kept: String, steering: Steering) -> u64 {
        self.number += 1;
        self.states.send_replace(Some(ToSave { number: self.number, kept, steering }));
        self.number
    }

    pub(super) fn record(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            tracing::warn!(
                "the store is too slow for the record of a failover; a part is left out"
            );
        }
    }
}

async fn write(
    store: Store,
    policy: FailoverName,
    mut states: watch::Receiver<Option<ToSave>>,
    told: watch::Sender<Option<(u64, Steering)>>,
    mut records: mpsc::Receiver<Record>,
) {
    let key = (Rule::Failover, format!("FailoverPolicy/{policy}"));
    let mut lines = VecDeque::new();
    loop {
        let wait = if lines.is_empty() { Duration::MAX } else { RETRY };
        tokio::select! {
            biased;
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
                save(&store, &policy, &mut states, &told).await;
            }
            Some(record) = records.recv() => match record {
                Record::Incident { opened, closed, text } => {
                    let saved = store.save_failover_incident(&policy, opened, closed, &text).await;
                    if let Err(error) = saved {
                        tracing::error!(%policy, %error, "the record of a failover is not kept");
                    }
                }
                Record::Line { action, detail } => {
                    lines.push_back((Moment::now(), action, detail));
                    lines.truncate(MOST_LINES);
                    write_lines(&store, &key, &mut lines).await;
                }
            },
            () = sleep(wait) => write_lines(&store, &key, &mut lines).await,
        }
    }
}

/// Writes the latest state, until it is written.
async fn save(
    store: &Store,
    policy: &FailoverName,
    states: &mut watch::Receiver<Option<ToSave>>,
    told: &watch::Sender<Option<(u64, Steering)>>,
) {
    loop {
        let Some(ToSave { number, kept, steering }) = states.borrow_and_update().clone() else {
            return;
        };
        match store.save_failover_state(policy, &kept, &steering).await {
            Ok(()) => {
                told.send_replace(Some((number, steering)));
                return;
            }
            Err(error) => {
                tracing::error!(%policy, %error, "what failover has decided is not kept");
                // A newer one is tried at once.
                let _ = timeout(RETRY, states.changed()).await;
            }
        }
    }
}

/// Writes lines to the open incident; until it is open, they wait.
async fn write_lines(
    store: &Store,
    key: &Key,
    lines: &mut VecDeque<(Moment, &'static str, String)>,
) {
    let now = Moment::now();
    lines.retain(|(since, ..)| now.since(*since) < LINE_WAITS);
    while let Some((_, action, detail)) = lines.front() {
        match store.tell_incident((key.0, &key.1), action, detail).await {
            Ok(true) => _ = lines.pop_front(),
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "a line of an incident cannot be written");
                return;
            }
        }
    }
}
