//! Server-sent events (WHATWG HTML, section 9.2): streams that a client can take up again.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderMap, HeaderName, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt};

use super::ApiState;

/// A comment this often, so that a connection that says nothing is not taken for a dead one.
const HEARTBEAT: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Whether a request asks for a stream.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepts.flat_map(|value| value.split(','));
    types.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"))
}

/// The `id` of the last event that a client has seen, if it says so.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(LAST_EVENT_ID)?.to_str().ok()
}

impl ApiState {
    /// Answers by a stream, which ends when the process gives up its control: the client takes it
    /// up again with the next one.
    pub(super) fn stream(&self, events: impl Stream<Item = Event> + Send + 'static) -> Response {
        let mut stopping = self.stopping.clone();
        let stopped = async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let events = events.map(Ok::<_, Infallible>).take_until(Box::pin(stopped));
        Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response()
    }
}
