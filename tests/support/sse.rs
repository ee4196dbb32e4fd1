//! A client of server-sent events that breaks off wherever it is told to.

use serde_json::Value;

use super::Weir;

/// One event as it came over the wire.
#[derive(Clone, Debug)]
pub struct SseEvent {
    pub id: Option<String>,
    pub what: String,
    pub data: Value,
}

/// One connection to a stream of events.
pub struct Sse {
    answer: reqwest::Response,
    rest: String,
}

impl Sse {
    /// Connects; the status of an answer that is no stream is the error.
    pub async fn open(weir: &Weir, path: &str, last: Option<&str>) -> Result<Self, u16> {
        let request = weir.request("GET", path).header("accept", "text/event-stream");
        let request = match last {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let answer = request.send().await.unwrap();
        match answer.status().as_u16() {
            200 => Ok(Self { answer, rest: String::new() }),
            status => Err(status),
        }
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some((block, rest)) = self.rest.split_once("\n\n") {
                let event = parse(block);
                self.rest = rest.to_owned();
                if let Some(event) = event {
                    return Some(event);
                }
                continue;
            }
            let chunk = self.answer.chunk().await.ok()??;
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Events up to the first one for which that holds.
    pub async fn until(&mut self, mut found: impl FnMut(&SseEvent) -> bool) -> Vec<SseEvent> {
        let read = async {
            let mut events = Vec::new();
            while let Some(event) = self.next().await {
                events.push(event);
                if events.last().is_some_and(&mut found) {
                    return events;
                }
            }
            panic!("the stream ended after {events:#?}");
        };
        tokio::time::timeout(super::DEADLINE, read).await.expect("an event that does not come")
    }
}

/// `None` for a comment.
fn parse(block: &str) -> Option<SseEvent> {
    let field = |name: &str| {
        let prefix = format!("{name}:");
        let line = block.lines().find(|line| line.starts_with(&prefix))?;
        Some(line[prefix.len()..].trim_start().to_owned())
    };
    let (what, data) = (field("event")?, field("data")?);
    Some(SseEvent { id: field("id"), what, data: serde_json::from_str(&data).unwrap() })
}
