//! `/v1/apps`: what operators want.

use axum::{extract::State, http::StatusCode};
use serde_json::Value;
use weir_config::{App, AppManifest, AppName, AppSpec, Hostname, Moment, Problems, SleepLevel};

use super::{
    ApiState,
    call::{Answer, Call, Parsed, Shown},
    problem::ApiProblem,
    query::{PageQuery, Params},
    wait::WaitQuery,
    wire::{AppResource, AppStatus, List, Phase, ProblemDetails, SleepRequest},
};
use crate::{
    event::Event,
    reconciler::World,
    status,
    store::{Record, Verb},
};

impl Parsed for App {
    fn parse(value: Value, base_domain: &Hostname) -> Result<(AppSpec, Self), Problems> {
        let (manifest, app) = Self::read(value, base_domain)?;
        Ok((manifest.spec, app))
    }
}

impl Shown for App {
    type Status = AppStatus;

    fn status(record: &Record<Self>, state: &ApiState, world: &World) -> Option<AppStatus> {
        let app = world.desired.apps.get(&record.name)?;
        let (now, port) = (Moment::now(), state.https_port);
        let mut status = status::app_status(app, world, &state.activity, now, port);
        state.transitions.borrow().date(&record.name, &mut status.conditions);
        Some(status)
    }

    fn unseen(record: &Record<Self>) -> AppStatus {
        let deployment = record.extra.first();
        AppStatus {
            phase: Phase::Progressing,
            observed_generation: 0,
            url: String::new(),
            deployment: deployment.map(|deployment| deployment.number),
            live_deployment: None,
            image: deployment.map(|deployment| deployment.template.image.clone()),
            ready_instances: 0,
            desired_instances: record.spec.instances,
            requests_in_flight: 0,
            upstreams: Vec::new(),
            conditions: Vec::new(),
            failure: None,
        }
    }

    fn is_settled(status: &AppStatus) -> bool {
        status.phase.is_settled()
    }
}

/// All apps, by name.
#[utoipa::path(get, path = "/v1/apps", params(PageQuery),
    responses((status = 200, body = List<AppResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Answer {
    state.list::<App>(&query).await
}

/// One app.
#[utoipa::path(get, path = "/v1/apps/{name}", params(WaitQuery),
    responses((status = 200, body = AppResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(call: Call) -> Answer {
    call.read::<App>().await
}

/// Makes a new app.
#[utoipa::path(post, path = "/v1/apps", params(WaitQuery), request_body = AppManifest,
    responses((status = 201, body = AppResource), (status = 409, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn create(call: Call) -> Answer {
    call.create::<App>().await
}

/// Makes an app what is written here, new or not.
#[utoipa::path(put, path = "/v1/apps/{name}", params(WaitQuery), request_body = AppManifest,
    responses((status = 200, body = AppResource), (status = 201, body = AppResource),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(call: Call) -> Answer {
    call.put::<App>().await
}

/// Deletes an app. Its requests in flight end, then its containers go.
#[utoipa::path(delete, path = "/v1/apps/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    call.delete::<App>().await
}

/// Puts an app to sleep now. Refused while a request is in flight or it is not ready.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/sleep", params(WaitQuery),
    request_body = SleepRequest,
    responses((status = 202, body = AppResource), (status = 409, body = ProblemDetails)))]
pub(crate) async fn sleep(call: Call) -> Answer {
    let request: SleepRequest = call.request()?;
    put_to_sleep(call, request.level.unwrap_or(SleepLevel::Paused)).await
}

pub(super) async fn put_to_sleep(call: Call, level: SleepLevel) -> Answer {
    let record = call.state.store.read::<App>(&call.name::<App>()?).await?;
    let name = record.name.clone();
    if record.spec.image.is_none() {
        let why = format!("{name} cannot sleep: it has no containers of its own");
        return Err(ApiProblem::conflict("cannot_sleep", why));
    }
    let status = call.state.show(&call.state.world(), record.clone()).status;
    if let Some(why) = cannot_sleep(&status) {
        return Err(ApiProblem::conflict(
            "cannot_sleep",
            format!("{name} cannot sleep now: {why}"),
        ));
    }
    act(&call, Verb::Sleep, record, Event::SleepWanted(name, level), |status| {
        matches!(status.phase, Phase::Paused | Phase::Stopped)
    })
    .await
}

fn cannot_sleep(status: &AppStatus) -> Option<String> {
    match (status.phase, status.requests_in_flight) {
        (Phase::Ready | Phase::Paused | Phase::Stopped, 0) => None,
        (Phase::Ready | Phase::Paused | Phase::Stopped, 1) => {
            Some("a request is in flight".to_owned())
        }
        (Phase::Ready | Phase::Paused | Phase::Stopped, n) => {
            Some(format!("{n} requests are in flight"))
        }
        (phase, _) => Some(format!("it is {}", phase.as_str())),
    }
}

/// Wakes an app.
#[utoipa::path(post, path = "/v1/apps/{name}/actions/wake", params(WaitQuery),
    responses((status = 202, body = AppResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn wake(call: Call) -> Answer {
    let name: AppName = call.name::<App>()?;
    let record = call.state.store.read::<App>(&name).await?;
    act(&call, Verb::Wake, record, Event::WakeWanted(name), |status| {
        matches!(status.phase, Phase::Ready | Phase::Degraded | Phase::Failed)
    })
    .await
}

/// Tells the loop what is wanted of an app, and answers by the app.
async fn act(
    call: &Call,
    verb: Verb,
    record: Record<App>,
    wanted: Event,
    done: impl Fn(&AppStatus) -> bool,
) -> Answer {
    let operation = call.state.store.act(call.cause(verb), record.target()).await?;
    let sent = call.state.events.send(wanted).await;
    sent.map_err(|_| ApiProblem::unavailable("Weir is shutting down"))?;
    call.answer(StatusCode::ACCEPTED, record, Some(&operation), done).await
}
