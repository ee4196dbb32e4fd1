//! What the process has died of twice, as it seems, and so is not served again for a while.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use weir_config::{Moment, Snapshot};

use crate::{gate::Cause, subject::Subject};

/// The first wait before it is served once more; doubles with each time that does not go well.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How a subject is served, by the text of both: `App/shop` and its fingerprint.
pub(crate) type Contents = BTreeMap<String, u64>;

/// As it is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Convicted {
    pub(crate) contents: Contents,
    /// How often something was put here.
    pub(crate) times: u32,
}

/// As it is kept from being served.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    contents: Contents,
    until: Moment,
}

impl Quarantine {
    pub(crate) fn new(convicted: Convicted, now: Moment) -> Self {
        let doubled = FIRST_WAIT.saturating_mul(1 << convicted.times.saturating_sub(1).min(10));
        Self { contents: convicted.contents, until: now + doubled.min(LONGEST_WAIT) }
    }

    /// Why a subject is not to be served as it is in this snapshot, if so it is.
    pub(crate) fn finds(
        &self,
        subject: &Subject,
        snapshot: &Snapshot,
        now: Moment,
    ) -> Option<(Cause, String)> {
        if self.contents.is_empty() || self.until <= now {
            return None;
        }
        let convicted = self.contents.get(&subject.to_string())?;
        let is_it = fingerprint(subject, snapshot) == Some(*convicted);
        let message = "the process has died twice just after this was served; it is tried again \
                       after a while, or at once when its spec changes";
        is_it.then(|| (Cause::Quarantined { until: self.until }, message.to_owned()))
    }

    /// Its spec has changed.
    pub(crate) fn release(&mut self, subject: &Subject) {
        if !self.contents.is_empty() {
            self.contents.remove(&subject.to_string());
        }
    }
}

/// Tells one way of serving a subject from another; `None` if it is not served.
pub(crate) fn fingerprint(subject: &Subject, snapshot: &Snapshot) -> Option<u64> {
    match subject {
        Subject::App(name) => snapshot.app(name).map(|route| route.fingerprint()),
        Subject::Shard(name) => snapshot.shard(name).map(|pool| pool.fingerprint()),
        // It would cost all of its records, and nothing but answers is made of them.
        Subject::Zone(_) => None,
        // What is held back in a failover is the way out of an outage.
        Subject::Policy(_) => None,
    }
}
