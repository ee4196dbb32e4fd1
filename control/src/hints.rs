//! The data plane's hints, on their way into the loop.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot};
use weir_config::{AppName, EndpointId, Observe};

use crate::event::Event;

/// Hands hints to the loop without ever waiting for it.
#[derive(Debug)]
pub struct Hints {
    /// The queue of the loop that runs, or ran last. Until there is one, hints go nowhere: the
    /// first plan sees every level.
    events: ArcSwapOption<mpsc::WeakSender<Event>>,
    /// Hints that found the loop's queue full.
    dropped: IntCounter,
}

impl Default for Hints {
    fn default() -> Self {
        let (name, help) =
            ("weir_hints_dropped_total", "Hints of requests that the loop had no room for.");
        let dropped = IntCounter::new(name, help).expect("a valid name of a metric");
        Self { events: ArcSwapOption::empty(), dropped }
    }
}

impl Hints {
    /// From now on, hints go to this loop.
    pub(crate) fn lead_to(&self, events: &mpsc::Sender<Event>) {
        self.events.store(Some(Arc::new(events.downgrade())));
    }

    /// Counts the hints that were dropped.
    pub(crate) fn metric(&self) -> Box<IntCounter> {
        Box::new(self.dropped.clone())
    }

    /// Returns when the loop has taken in what was sent to it before; false if there is none.
    pub async fn pulse(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let events = self.events.load().as_ref().and_then(|events| events.upgrade());
        let Some(events) = events else { return false };
        let asked = events.send(Event::Pulse(answer)).await;
        drop(events);
        asked.is_ok() && answered.await.is_ok()
    }

    fn send(&self, event: Event) {
        let events = self.events.load();
        let Some(events) = events.as_ref().and_then(|events| events.upgrade()) else { return };
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
