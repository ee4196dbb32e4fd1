//! Writes down what the loop has decided, off its path. What it writes comes back by the feed.

use std::time::Duration;

use tokio::sync::mpsc;
use weir_config::{AppName, ZoneName};

use crate::{
    event::Event,
    store::{Store, StoreError},
    subject::Subject,
    transition::Transition,
};

/// Decisions that wait to be written. More are decided anew when there is room.
pub(crate) const QUEUE: usize = 256;
/// After a failed write, so that a full disk is not asked without pause.
const RETRY: Duration = Duration::from_secs(1);

/// What follows from what was seen, and must survive this process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// A transition of an app's deployments.
    Transition(AppName, Transition),
    /// More serials for a zone, of which this one is wanted next.
    Serials(ZoneName, u64),
}

/// Writes each decision, until the loop is gone.
pub(crate) async fn record(
    store: Store,
    mut decisions: mpsc::Receiver<Decision>,
    events: mpsc::Sender<Event>,
) {
    while let Some(decision) = decisions.recv().await {
        let subject = decision.subject();
        match decision.write(&store).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%subject, %error, "what was decided was not written");
                tokio::time::sleep(RETRY).await;
            }
        }
        if events.send(Event::NotRecorded(subject)).await.is_err() {
            return;
        }
    }
}

impl Decision {
    fn subject(&self) -> Subject {
        match self {
            Self::Transition(app, _) => Subject::App(app.clone()),
            Self::Serials(zone, _) => Subject::Zone(zone.clone()),
        }
    }

    /// Returns whether it came in time.
    async fn write(&self, store: &Store) -> Result<bool, StoreError> {
        match self {
            Self::Transition(app, transition) => {
                Ok(store.change_deployments(app, transition, None).await?.is_some())
            }
            Self::Serials(zone, next) => store.more_serials(zone, *next).await,
        }
    }
}
