//! Writes down what the loop has decided, off its path. What it writes comes back by the feed.

use std::time::Duration;

use tokio::sync::mpsc;
use weir_config::AppName;

use crate::{event::Event, store::Store, transition::Transition};

/// Decisions that wait to be written. More are decided anew when there is room.
pub(crate) const QUEUE: usize = 256;
/// After a failed write, so that a full disk is not asked without pause.
const RETRY: Duration = Duration::from_secs(1);

/// A transition of an app's deployments that follows from what was seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) app: AppName,
    pub(crate) transition: Transition,
}

/// Writes each decision, until the loop is gone.
pub(crate) async fn record(
    store: Store,
    mut decisions: mpsc::Receiver<Decision>,
    events: mpsc::Sender<Event>,
) {
    while let Some(Decision { app, transition }) = decisions.recv().await {
        match store.change_deployments(&app, &transition, None).await {
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%app, %error, "what becomes of a deployment was not written");
                tokio::time::sleep(RETRY).await;
            }
        }
        if events.send(Event::NotRecorded(app)).await.is_err() {
            return;
        }
    }
}
