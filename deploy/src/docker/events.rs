//! Changes of our containers, as they happen.
//!
//! The engine begins its answer to a subscription *before* it has subscribed, so no answer proves
//! that the subscription is there. What closes the gap is `since`: under one lock the engine takes
//! the events after that moment from its memory (the last 256 of them) and subscribes to those to
//! come. So the moment is read from the engine's own clock first, and then a task sends the request
//! at once, whether or not anybody reads the stream yet.

use std::collections::HashMap;

use bollard::{errors::Error, models::EventMessage, query_parameters::EventsOptions};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weir_config::HostName;

use super::{CALL, Docker, errors::Failure, labels};
use crate::provider::{ContainerEvent, ProviderError, Stream};

/// The engine drops events for a reader that is slower than this many.
const WAITING: usize = 1024;
/// What changes a container's state. The rest (exec, top, attach, resize) is noise, and a probe
/// that the image brings makes some of it every few seconds.
const ACTIONS: [&str; 10] = [
    "create",
    "start",
    "restart",
    "die",
    "oom",
    "stop",
    "pause",
    "unpause",
    "destroy",
    "health_status",
];

impl Docker {
    pub(crate) async fn subscribe(&self) -> Result<Stream<ContainerEvent>, Failure> {
        let request = async |client: bollard::Docker| client.info().await;
        let clock = self.call("events", CALL, request).await?.system_time;
        let options = EventsOptions {
            since: clock.as_deref().and_then(since),
            until: None,
            filters: Some(self.filters()),
        };
        let messages = self.client(CALL)?.events(Some(options));
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(forward(self.clone(), messages, sender));
        Ok(ReceiverStream::new(receiver).boxed())
    }

    fn filters(&self) -> HashMap<String, Vec<String>> {
        let label = format!("{}={}", labels::CLUSTER, self.cluster);
        HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![label]),
            ("event".to_owned(), ACTIONS.map(str::to_owned).to_vec()),
        ])
    }
}

/// Ends with the engine's stream, with its first error, or when nobody reads any more.
async fn forward(
    docker: Docker,
    mut messages: impl futures::Stream<Item = Result<EventMessage, Error>> + Unpin,
    sender: mpsc::Sender<Result<ContainerEvent, ProviderError>>,
) {
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = sender.closed() => return,
        };
        let event = match message {
            Some(Ok(message)) => match event(message, &docker.host) {
                Some(event) => Ok(event),
                None => continue,
            },
            Some(Err(error)) => Err(docker.failure(error, "events", CALL).into()),
            None => return,
        };
        let ended = event.is_err();
        if sender.send(event).await.is_err() || ended {
            return;
        }
    }
}

/// An event names its container's labels among its attributes.
fn event(message: EventMessage, host: &HostName) -> Option<ContainerEvent> {
    let at = i128::from(message.time_nano.unwrap_or_default());
    let attributes = message.actor?.attributes?;
    let died = message.action.as_deref() == Some("die");
    let exit_code = attributes.get("exitCode").filter(|_| died).and_then(|code| code.parse().ok());
    Some(ContainerEvent { instance: labels::instance(&attributes, host)?, at, exit_code })
}

/// A time of the engine's, in the form that it takes times in: `<seconds>.<nanoseconds>`.
fn since(clock: &str) -> Option<String> {
    let clock: Timestamp = clock.parse().ok()?;
    Some(format!("{}.{:09}", clock.as_second(), clock.subsec_nanosecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_clock_becomes_a_time_that_it_understands() {
        let written = "2026-11-21T08:09:00.000342831Z";
        assert_eq!(since(written).as_deref(), Some("1795248540.000342831"));
        assert_eq!(since("2026-11-21T10:09:00+02:00").as_deref(), Some("1795248540.000000000"));
        assert_eq!(since("soon"), None);
    }
}
