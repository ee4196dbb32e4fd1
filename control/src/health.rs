//! What the probes of an instance or a member have come to.

use weir_config::Moment;

/// Kept while an instance is paused: its process does not change meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Health {
    Starting { since: Moment, error: Option<String> },
    Ready { since: Moment },
    Unhealthy { since: Moment, error: String },
}

impl Default for Health {
    fn default() -> Self {
        Self::Starting { since: Moment(0), error: None }
    }
}

impl Health {
    /// Takes in a verdict of the probes.
    pub(crate) fn take(&mut self, outcome: Result<(), String>, now: Moment) {
        match (outcome, &mut *self) {
            // Since when it is ready is part of what is served: it stays until it is not.
            (Ok(()), Self::Ready { .. }) => {}
            (Ok(()), _) => *self = Self::Ready { since: now },
            (Err(error), Self::Starting { error: last, .. }) => *last = Some(error),
            (Err(error), Self::Ready { .. }) => *self = Self::Unhealthy { since: now, error },
            (Err(error), Self::Unhealthy { error: last, .. }) => *last = error,
        }
    }

    /// Its time to be ready begins anew.
    pub(crate) fn excuse(&mut self, now: Moment) {
        match self {
            Self::Starting { since, .. } | Self::Unhealthy { since, .. } => *since = now,
            Self::Ready { .. } => {}
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready_since().is_some()
    }

    pub(crate) fn ready_since(&self) -> Option<Moment> {
        match self {
            Self::Ready { since } => Some(*since),
            Self::Starting { .. } | Self::Unhealthy { .. } => None,
        }
    }

    /// Whether a probe has told of it.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Self::Starting { error: None, .. })
    }

    /// Why it is not ready, if a probe has told.
    pub(crate) fn error(&self) -> Option<&str> {
        match self {
            Self::Ready { .. } => None,
            Self::Starting { error, .. } => error.as_deref(),
            Self::Unhealthy { error, .. } => Some(error),
        }
    }
}
