//! The data plane's hints, on their way into the loop.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc;
use weir_config::{AppName, InstanceId, Observe};

use crate::event::Event;

/// Hands hints to the loop without ever waiting for it.
#[derive(Debug)]
pub struct Hints {
    events: mpsc::WeakSender<Event>,
    dropped: AtomicU64,
}

impl Hints {
    pub(crate) fn new(events: &mpsc::Sender<Event>) -> Self {
        Self { events: events.downgrade(), dropped: AtomicU64::new(0) }
    }

    /// Hints that found the loop's queue full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn send(&self, event: Event) {
        let Some(events) = self.events.upgrade() else { return };
        if events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Observe for Hints {
    fn wake_wanted(&self, app: &AppName) {
        self.send(Event::WakeWanted(app.clone()));
    }

    fn connect_failed(&self, instance: &InstanceId) {
        self.send(Event::ConnectFailed(instance.clone()));
    }
}
