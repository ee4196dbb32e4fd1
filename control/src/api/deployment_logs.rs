//! `/v1/apps/{name}/deployments/{number}/logs`: how a deployment went, step by step.

use std::collections::VecDeque;

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response, sse},
};
use futures::{Stream, StreamExt, stream};
use tokio::sync::watch;
use weir_config::{App, AppName};

use super::{
    ApiState, call::parse_name, problem::ApiProblem, sse::is_wanted, wire::ProblemDetails,
};
use crate::store::{DeploymentId, LogEntry, Store};

/// Entries read at once.
const BATCH: u32 = 256;

/// The steps of a deployment, and what its instances wrote until it was settled.
///
/// As server-sent events, if those are asked for by `Accept: text/event-stream`, it goes on until
/// the deployment is settled: `step`, `log`, `end`, and `truncated` where the oldest entries are
/// no longer kept (1 MiB are). After a break, `Last-Event-ID` goes on where it was; of a log that
/// is at its end nothing more is to be had: 204. Else what there is by now, as newline-delimited
/// JSON.
#[utoipa::path(get, path = "/v1/apps/{name}/deployments/{number}/logs",
    responses((status = 200, content_type = "text/event-stream"), (status = 204),
        (status = 404, body = ProblemDetails)))]
pub(crate) async fn logs(
    State(state): State<ApiState>,
    Path((name, number)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiProblem> {
    let app: AppName = parse_name(&name)?;
    let none = || ApiProblem::not_found(&format!("{name} has no log of a deployment {number}"));
    let number = number.parse().map_err(|_| none())?;
    let deployment = DeploymentId { app, number };
    let end = state.store.deployment_log_end(&deployment).await?;
    if end.is_none() {
        // Made a moment ago: its first step is about to be noted.
        let record = state.store.read::<App>(&deployment.app).await?;
        if record.target().deployment != Some(number) {
            return Err(none());
        }
    }
    let after = super::sse::last_event_id(&headers).and_then(|id| id.parse().ok()).unwrap_or(0);
    let (last, ended) = end.unwrap_or_default();
    if !is_wanted(&headers) {
        let entries = Entries::new(&state.store, deployment, after, Some(last));
        let lines = entries.stream().map(|entry| Ok::<_, std::convert::Infallible>(json(&entry)));
        let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
        return Ok((content_type, Body::from_stream(lines)).into_response());
    }
    if ended && after >= last {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let entries = Entries::new(&state.store, deployment, after, None).stream();
    Ok(state.stream(entries.map(|entry| {
        sse::Event::default().id(entry.seq.to_string()).event(entry.what).data(entry.data)
    })))
}

fn json(entry: &LogEntry) -> String {
    let (seq, what, data) = (entry.seq, &entry.what, &entry.data);
    format!("{{\"seq\":{seq},\"type\":\"{what}\",\"data\":{data}}}\n")
}

/// The entries of a log, one after the other.
struct Entries {
    store: Store,
    deployment: DeploymentId,
    /// The last one that was given.
    after: u64,
    /// Where to end: `None` at the end of the deployment.
    up_to: Option<u64>,
    noted: watch::Receiver<()>,
    ready: VecDeque<LogEntry>,
    ended: bool,
}

impl Entries {
    fn new(store: &Store, deployment: DeploymentId, after: u64, up_to: Option<u64>) -> Self {
        let (store, noted) = (store.clone(), store.noted());
        let ready = VecDeque::new();
        Self { store, deployment, after, up_to, noted, ready, ended: false }
    }

    fn stream(self) -> impl Stream<Item = LogEntry> + Send {
        stream::unfold(self, async |mut this| Some((this.next().await?, this)))
    }

    /// The next entry, once there is one.
    async fn next(&mut self) -> Option<LogEntry> {
        loop {
            if self.ended || self.up_to.is_some_and(|last| self.after >= last) {
                return None;
            }
            if let Some(entry) = self.ready.pop_front() {
                self.after = entry.seq;
                self.ended = self.up_to.is_none() && entry.what == "end";
                return Some(entry);
            }
            // Before looking, so that nothing is noted unseen in between.
            self.noted.mark_unchanged();
            let found = self.store.deployment_log(&self.deployment, self.after, BATCH).await;
            // The client takes it up again.
            let found = found.inspect_err(|error| tracing::warn!(%error, "a log cannot be read"));
            self.ready.extend(found.ok()?);
            match self.ready.front() {
                Some(first) if first.seq > self.after + 1 => {
                    let (seq, missing) = (first.seq - 1, first.seq - 1 - self.after);
                    let data = format!("{{\"entries\":{missing}}}");
                    self.ready.push_front(LogEntry { seq, what: "truncated".to_owned(), data });
                }
                Some(_) => {}
                None if self.up_to.is_some() => return None,
                None => self.noted.changed().await.ok()?,
            }
        }
    }
}
