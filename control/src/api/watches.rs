//! `/v1/watch`: objects, whenever something has changed about them.

use std::{collections::VecDeque, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{Response, sse::Event},
};
use futures::{Stream, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use weir_config::{App, FailoverPolicy, Host, HostedZone, Shard};

use super::{
    ApiState,
    call::{Shown, parse_name},
    problem::ApiProblem,
    query::Params,
    sse::last_event_id,
    wire::ProblemDetails,
};
use crate::store::{Issuer, Kind, Notifier, Page, Place, Provider, StoreError};

/// How often it is told how far a watch is, also if nothing has changed.
const BOOKMARK: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchQuery {
    /// Only objects of these kinds, as `App,Shard`; of all when left out.
    kinds: Option<String>,
    /// After this revision, as a list tells it; when left out, it begins with all there are.
    since: Option<String>,
}

/// Objects as server-sent events, each as it is now, whenever its spec has changed or something has
/// happened to it.
///
/// `put` and `delete` tell of an object; several changes of one may be told at once. After `synced`
/// everything there was at the beginning has been told; `bookmark`, every 10 s, only tells how far
/// it is. The `id` of an event begins with a revision; after a break, `Last-Event-ID` goes on
/// where it was. If that is too long ago to tell, the answer is 410 (`revision_gone`): list anew.
/// A client that falls so far behind while it reads gets `overflow`, and the stream ends.
#[utoipa::path(get, path = "/v1/watch", params(WatchQuery),
    responses((status = 200, content_type = "text/event-stream"),
        (status = 410, body = ProblemDetails)))]
pub(crate) async fn watch(
    State(state): State<ApiState>,
    Params(query): Params<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiProblem> {
    let kinds = kinds(query.kinds.as_deref())?;
    let since = last_event_id(&headers).or(query.since.as_deref());
    let since = since.map(str::parse::<Place>).transpose().map_err(|_| {
        let why = "`since` is a revision, as a list or an event of a watch tells it".to_owned();
        ApiProblem::bad_request("bad_since", why)
    })?;
    // Before anything is looked at, so that nothing changes unseen in between.
    let followed = (state.store.revisions(), state.store.noted());
    let (told, ready) = match since {
        None => (None, state.everything(&kinds).await?),
        Some(since) => {
            let changed = state.store.changed_since(since, &kinds).await?;
            let changed = changed.ok_or_else(gone)?;
            state.caught_up(changed.up_to.revision).await;
            (Some(since), Batch { objects: changed.objects.into(), up_to: changed.up_to })
        }
    };
    let watched = Watched {
        state: state.clone(),
        kinds,
        followed,
        told,
        ready: Some(ready),
        is_synced: false,
        bookmark_at: Instant::now() + BOOKMARK,
        has_ended: false,
    };
    Ok(state.stream(watched.stream()))
}

fn kinds(text: Option<&str>) -> Result<Vec<Kind>, ApiProblem> {
    let Some(text) = text else { return Ok(Kind::ALL.to_vec()) };
    let unknown = |kind: &str| {
        let why = format!("there is no kind `{kind}`; write them as in `App,Shard`");
        ApiProblem::bad_request("bad_kinds", why)
    };
    text.split(',').map(|kind| Kind::parse(kind).ok_or_else(|| unknown(kind))).collect()
}

fn gone() -> ApiProblem {
    let detail = "what has changed since then is no longer known; list anew, and go on from there";
    ApiProblem::new(StatusCode::GONE, "revision_gone", "Too long ago", detail.to_owned())
}

/// One client's watch. It keeps names only: an object is read when the client has room for it, so
/// that a slow one costs no memory and is told the newest.
struct Watched {
    state: ApiState,
    kinds: Vec<Kind>,
    followed: (watch::Receiver<u64>, watch::Receiver<()>),
    /// Up to where everything has been told; `None` before that was ever so.
    told: Option<Place>,
    ready: Option<Batch>,
    is_synced: bool,
    bookmark_at: Instant,
    has_ended: bool,
}

/// Objects that are to be told.
struct Batch {
    objects: VecDeque<(Kind, String)>,
    /// How far the client is when it has all of them.
    up_to: Place,
}

impl Watched {
    fn stream(self) -> impl Stream<Item = Event> + Send {
        stream::unfold(self, async |mut this| {
            let event = this.next().await;
            // The client takes it up again.
            let event = event.inspect_err(|error| tracing::warn!(%error, "a watch ends"));
            Some((event.ok()??, this))
        })
    }

    async fn next(&mut self) -> Result<Option<Event>, StoreError> {
        if self.has_ended {
            return Ok(None);
        }
        loop {
            if let Some(batch) = &mut self.ready {
                if let Some((kind, name)) = batch.objects.pop_front() {
                    if batch.objects.is_empty() {
                        self.told = Some(batch.up_to);
                    }
                    let (what, object) = self.state.current(kind, &name).await?;
                    return Ok(Some(self.event(what, &object)));
                }
                self.told = Some(batch.up_to);
                self.ready = None;
                if !std::mem::replace(&mut self.is_synced, true) {
                    return Ok(Some(self.event("synced", &json!({}))));
                }
            }
            let Some(told) = self.told else { return Ok(None) };
            tokio::select! {
                changed = self.followed.0.changed() => if changed.is_err() { return Ok(None) },
                changed = self.followed.1.changed() => if changed.is_err() { return Ok(None) },
                () = sleep_until(self.bookmark_at) => {
                    self.bookmark_at = Instant::now() + BOOKMARK;
                    return Ok(Some(self.event("bookmark", &json!({}))));
                }
            }
            let Some(changed) = self.state.store.changed_since(told, &self.kinds).await? else {
                self.has_ended = true;
                return Ok(Some(self.event("overflow", &json!({}))));
            };
            self.state.caught_up(changed.up_to.revision).await;
            let objects = changed.objects.into();
            self.ready = Some(Batch { objects, up_to: changed.up_to });
        }
    }

    fn event(&self, what: &str, data: &Value) -> Event {
        let event = Event::default().event(what).data(data.to_string());
        match self.told {
            Some(told) => event.id(told.to_string()),
            None => event,
        }
    }
}

impl ApiState {
    /// All objects of these kinds.
    async fn everything(&self, kinds: &[Kind]) -> Result<Batch, StoreError> {
        // First: what changes meanwhile is told again.
        let up_to = self.store.place().await?;
        let (mut objects, all) = (VecDeque::new(), Page::default());
        for kind in kinds {
            let names: Vec<String> = match kind {
                Kind::App => names(self.store.list::<App>(&all).await?.0),
                Kind::Shard => names(self.store.list::<Shard>(&all).await?.0),
                Kind::Host => names(self.store.list::<Host>(&all).await?.0),
                Kind::Zone => names(self.store.list::<HostedZone>(&all).await?.0),
                Kind::Issuer => names(self.store.list::<Issuer>(&all).await?.0),
                Kind::Provider => names(self.store.list::<Provider>(&all).await?.0),
                Kind::FailoverPolicy => names(self.store.list::<FailoverPolicy>(&all).await?.0),
                Kind::Notifier => names(self.store.list::<Notifier>(&all).await?.0),
            };
            objects.extend(names.into_iter().map(|name| (*kind, name)));
        }
        Ok(Batch { objects, up_to })
    }

    /// An object as it is now, and what is to be told of it.
    async fn current(&self, kind: Kind, name: &str) -> Result<(&'static str, Value), StoreError> {
        let object = match kind {
            Kind::App => self.find_shown::<App>(name).await?,
            Kind::Shard => self.find_shown::<Shard>(name).await?,
            Kind::Host => self.find_shown::<Host>(name).await?,
            Kind::Zone => self.find_shown::<HostedZone>(name).await?,
            Kind::Issuer => self.find_shown::<Issuer>(name).await?,
            Kind::Provider => self.find_shown::<Provider>(name).await?,
            Kind::FailoverPolicy => self.find_shown::<FailoverPolicy>(name).await?,
            Kind::Notifier => self.find_shown::<Notifier>(name).await?,
        };
        let gone = || json!({"kind": kind.as_str(), "name": name});
        Ok(object.map_or_else(|| ("delete", gone()), |object| ("put", object)))
    }

    async fn find_shown<O: Shown>(&self, name: &str) -> Result<Option<Value>, StoreError> {
        let Ok(name) = parse_name::<O::Name>(name) else { return Ok(None) };
        let Some(record) = self.store.find::<O>(&name).await? else { return Ok(None) };
        let resource = self.show(&self.world(), record);
        Ok(serde_json::to_value(resource).ok())
    }
}

fn names<O: Shown>(records: Vec<crate::store::Record<O>>) -> Vec<String> {
    records.into_iter().map(|record| record.name.to_string()).collect()
}
