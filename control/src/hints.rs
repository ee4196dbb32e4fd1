//! The data plane's hints, on their way into the loop.

use prometheus::IntCounter;
use tokio::sync::mpsc;
use weir_config::{AppName, EndpointId, Observe};

use crate::event::Event;

/// Hands hints to the loop without ever waiting for it.
#[derive(Debug)]
pub struct Hints {
    events: mpsc::WeakSender<Event>,
    /// Hints that found the loop's queue full.
    dropped: IntCounter,
}

impl Hints {
    pub(crate) fn new(events: &mpsc::Sender<Event>) -> Self {
        let (name, help) =
            ("weir_hints_dropped_total", "Hints of requests that the loop had no room for.");
        let dropped = IntCounter::new(name, help).expect("a valid name of a metric");
        Self { events: events.downgrade(), dropped }
    }

    /// Counts the hints that were dropped.
    pub(crate) fn metric(&self) -> Box<IntCounter> {
        Box::new(self.dropped.clone())
    }

    fn send(&self, event: Event) {
        let Some(events) = self.events.upgrade() else { return };
        if events.try_send(event).is_err() {
            self.dropped.inc();
        }
    }
}

impl Observe for Hints {
    fn wake_wanted(&self, app: &AppName) {
        self.send(Event::WakeWanted(app.clone()));
    }

    fn connect_failed(&self, endpoint: &EndpointId) {
        self.send(Event::ConnectFailed(endpoint.clone()));
    }
}
