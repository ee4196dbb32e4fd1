//! What an app's processes write.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use weir_config::{App, AppName, InstanceId};
use weir_deploy::{LogLine, LogStream};

use super::{ApiState, call::parse_name, problem::ApiProblem, query::Params, wire::LogRecord};
use crate::mask::Mask;

/// Lines shown of each instance when nothing else is asked for.
const DEFAULT_TAIL: usize = 100;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogsQuery {
    /// The last so many lines of each instance.
    tail: Option<usize>,
    /// Go on with the lines to come.
    #[serde(default)]
    follow: bool,
}

/// The output of every instance of an app, as newline-delimited JSON.
#[utoipa::path(get, path = "/v1/apps/{name}/logs", params(LogsQuery),
    responses((status = 200, body = super::wire::LogRecord, content_type = "application/x-ndjson")))]
pub(crate) async fn logs(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(query): Params<LogsQuery>,
) -> Result<Response, ApiProblem> {
    let name: AppName = parse_name(&name)?;
    state.store.read::<App>(&name).await?;
    let tail = Some(query.tail.unwrap_or(DEFAULT_TAIL));
    let mask = Arc::new(state.vault.mask(&name).await);
    let mut all = stream::SelectAll::new();
    let (world, providers) = (state.world(), state.providers.load());
    for (instance, _) in world.observed.instances_of(&name) {
        // One that does not answer would only be waited for.
        let answers = world.observed.host(&instance.host).answers();
        let Some(provider) = providers.get(&instance.host).filter(|_| answers) else { continue };
        match provider.logs(instance, tail, query.follow).await {
            Ok(lines) => all.push(records(instance, lines, mask.clone()).boxed()),
            Err(error) => tracing::debug!(%instance, %error, "has no log"),
        }
    }
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(all)).into_response())
}

fn records(
    instance: &InstanceId,
    lines: weir_deploy::Stream<LogLine>,
    mask: Arc<Mask>,
) -> impl Stream<Item = Result<Bytes, serde_json::Error>> + use<> {
    let instance = instance.to_string();
    lines.filter_map(move |line| {
        // The end of one instance's log does not end the others'.
        let record = line.ok().map(|line| LogRecord {
            instance: instance.clone(),
            stream: match line.stream {
                LogStream::Out => "stdout".to_owned(),
                LogStream::Err => "stderr".to_owned(),
            },
            text: mask.apply(line.text),
        });
        let encoded = record.map(|record| {
            let mut json = serde_json::to_vec(&record)?;
            json.push(b'\n');
            Ok(Bytes::from(json))
        });
        async move { encoded }
    })
}
