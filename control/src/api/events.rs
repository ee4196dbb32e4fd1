//! `/v1/events`: what happened.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use weir_config::{App, AppName};

use super::{
    ApiState,
    call::{Answer, parse_name},
    query::{PageQuery, Params, page},
    wire::{EventRecord, List, ProblemDetails},
};
use crate::{
    store::{EventFilter, Kind, Page, StoredEvent},
    time::rfc3339,
};

/// Events shown at once when nothing else is asked for.
const DEFAULT_LIMIT: u32 = 100;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Only those of objects of this kind: `App`, `Shard` or `Host`.
    kind: Option<String>,
    /// Only those of objects of this name.
    name: Option<String>,
    /// Only those after the event of this id, the oldest first.
    since: Option<u64>,
    /// At most so many, up to 1000; 100 when left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What happened, the newest first; after `since`, the oldest first. Of each object the last 1,000
/// are kept, of all the last 100,000, for 30 days.
#[utoipa::path(get, path = "/v1/events", params(EventsQuery),
    responses((status = 200, body = List<EventRecord>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<EventsQuery>,
) -> Answer {
    let EventsQuery { kind, name, since, limit, cursor } = query;
    let page = page(limit.or(Some(DEFAULT_LIMIT)), cursor.as_deref())?;
    let filter = EventFilter { kind, name };
    let found = match since {
        None => state.store.events(&filter, &page).await?,
        Some(since) => {
            let limit = page.limit.unwrap_or(DEFAULT_LIMIT);
            state.store.events_since(&filter, page.after.unwrap_or(since), limit).await?
        }
    };
    Ok(shown(&found, &page))
}

/// What happened to an app, the newest first.
#[utoipa::path(get, path = "/v1/apps/{name}/events", params(PageQuery),
    responses((status = 200, body = List<EventRecord>), (status = 404, body = ProblemDetails)))]
pub(crate) async fn of_app(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(query): Params<PageQuery>,
) -> Answer {
    let page = query.page(Some(DEFAULT_LIMIT))?;
    let name: AppName = parse_name(&name)?;
    let filter =
        EventFilter { kind: Some(Kind::App.as_str().to_owned()), name: Some(name.to_string()) };
    let found = state.store.events(&filter, &page).await?;
    // Of one that is gone its end is worth knowing; one that never was is a mistake.
    if found.is_empty() {
        state.store.read::<App>(&name).await?;
    }
    Ok(shown(&found, &page))
}

fn shown(found: &[StoredEvent], page: &Page<u64>) -> Response {
    let next_cursor = page.next(found, |last| last.id.to_string());
    let items: Vec<_> = found.iter().cloned().map(show).collect();
    Json(List { items, next_cursor, revision: None }).into_response()
}

fn show(event: StoredEvent) -> EventRecord {
    EventRecord {
        id: event.id,
        at: rfc3339(event.at),
        kind: event.kind,
        name: event.name,
        deployment: event.deployment,
        r#type: event.what,
        reason: event.reason,
        message: event.message,
    }
}
