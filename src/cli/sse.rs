//! Server-sent events: a stream that is taken up again where it broke off.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode, header};
use tokio::time::{Instant, sleep, timeout};

use super::{client::Client, client_error::ClientError, lines::Lines};

/// The server says something this often at least, if only that it is there.
const SILENCE: Duration = Duration::from_secs(45);
/// Between two tries to connect again.
const RETRY: Duration = Duration::from_millis(500);
/// How long a server may be gone, as while it restarts.
const GIVE_UP: Duration = Duration::from_secs(60);

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) what: String,
    pub(super) data: String,
}

/// A stream of events from a path of the API.
pub(super) struct Events<'a> {
    client: &'a Client,
    path: Vec<String>,
    last_id: Option<String>,
    answer: Option<Response>,
    parser: Parser,
}

impl<'a> Events<'a> {
    pub(super) fn of(client: &'a Client, path: &[&str]) -> Self {
        let path = path.iter().map(ToString::to_string).collect();
        Self { client, path, last_id: None, answer: None, parser: Parser::default() }
    }

    /// The next event, over as many connections as it takes; `None` if there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        let mut broken_since = None;
        loop {
            if let Some((id, event)) = self.parser.ready.pop() {
                self.last_id = id.or(self.last_id.take());
                return Ok(Some(event));
            }
            let Some(answer) = &mut self.answer else {
                match self.connect().await {
                    Ok(answer) if answer.status() == StatusCode::NO_CONTENT => return Ok(None),
                    Ok(answer) => (self.answer, broken_since) = (Some(answer), None),
                    // A server that was there is expected back.
                    Err(ClientError::NoAnswer { .. } | ClientError::Interrupted { .. })
                        if self.last_id.is_some() && !is_over(&mut broken_since) =>
                    {
                        sleep(RETRY).await;
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            match timeout(SILENCE, answer.chunk()).await {
                Ok(Ok(Some(chunk))) => self.parser.take(&chunk),
                // The end, a break and a silence are the same: it is taken up again.
                _ => {
                    (self.answer, self.parser) = (None, Parser::default());
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn connect(&self) -> Result<Response, ClientError> {
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        let request = self.client.request(Method::GET, &path, &[]);
        let request = request.header(header::ACCEPT, "text/event-stream");
        let request = match &self.last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        self.client.send(request).await
    }
}

fn is_over(since: &mut Option<Instant>) -> bool {
    since.get_or_insert_with(Instant::now).elapsed() > GIVE_UP
}

/// Puts events together from what the network has cut anywhere.
#[derive(Default)]
struct Parser {
    lines: Lines,
    id: Option<String>,
    event: Event,
    /// The last one first.
    ready: Vec<(Option<String>, Event)>,
}

impl Parser {
    fn take(&mut self, chunk: &[u8]) {
        let mut complete = Vec::new();
        for line in self.lines.split(chunk) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    let event = std::mem::take(&mut self.event);
                    // A comment alone is no event.
                    if event != Event::default() {
                        complete.push((self.id.take(), event));
                    }
                }
                "id" => self.id = Some(value.to_owned()),
                "event" => value.clone_into(&mut self.event.what),
                "data" => self.event.data.push_str(value),
                _ => {}
            }
        }
        complete.reverse();
        complete.append(&mut self.ready);
        self.ready = complete;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_being_cut_anywhere() {
        let text = b": heartbeat\n\nid: 1\nevent: step\ndata: {\"a\":\"\xc3\xa9\"}\n\n\
                     id: 2\nevent: end\ndata: {}\n\n";
        let event = |what: &str, data: &str| Event { what: what.into(), data: data.into() };
        let expected = [
            (Some("1".to_owned()), event("step", "{\"a\":\"é\"}")),
            (Some("2".to_owned()), event("end", "{}")),
        ];
        for size in 1..text.len() {
            let (mut parser, mut found) = (Parser::default(), Vec::new());
            for chunk in text.chunks(size) {
                parser.take(chunk);
                found.extend(std::iter::from_fn(|| parser.ready.pop()));
            }
            assert_eq!(found, expected, "chunks of {size}");
        }
    }
}
