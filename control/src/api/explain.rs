//! Why a host name gets what it gets.

use axum::{
    Json,
    extract::{Path, State},
};
use weir_config::{AppRoute, Hostname, Moment, RouteState};

use super::{
    ApiState,
    problem::ApiProblem,
    wire::{Explanation, Step},
};
use crate::{reactor::World, status};

/// Follows a host name from its route to the processes behind it.
#[utoipa::path(get, path = "/v1/hostnames/{hostname}/explain",
    responses((status = 200, body = Explanation)))]
pub(crate) async fn explain(
    State(state): State<ApiState>,
    Path(hostname): Path<String>,
) -> Result<Json<Explanation>, ApiProblem> {
    let host: Hostname =
        hostname.parse().map_err(|why| ApiProblem::bad_request("bad_hostname", why))?;
    Ok(Json(explanation(&host, &state.world(), state.https_port)))
}

fn explanation(host: &Hostname, world: &World, https_port: u16) -> Explanation {
    let snapshot = &world.observed.served;
    let mut steps = Vec::new();
    let mut step = |subject: &str, finding: String| {
        steps.push(Step { subject: subject.to_owned(), finding });
    };
    let Some(route) = snapshot.route(host) else {
        let generation = snapshot.generation;
        step(
            "route",
            format!("no route of snapshot {generation} matches, nor a wildcard above it"),
        );
        let answer = "404: no app is served at this name".to_owned();
        return Explanation { hostname: host.to_string(), answer, steps };
    };
    let how = match route.hostnames.contains(host) {
        true => "exactly".to_owned(),
        false => "by a wildcard".to_owned(),
    };
    step("route", format!("snapshot {} matches it {how}: app {}", snapshot.generation, route.app));
    if let Some(app) = world.desired.apps.get(&route.app) {
        let status = status::app_status(app, &world.observed, Moment::now(), https_port);
        step("app", format!("generation {}, {}", app.generation, status.phase.as_str()));
        step("deployment", format!("number {} of image {}", status.deployment, status.image));
    } else {
        step("app", "it is being deleted".to_owned());
    }
    for (id, instance) in world.observed.instances_of(&route.app) {
        let shown = status::instance(id, instance);
        let address = shown.address.map_or_else(String::new, |address| format!(" at {address}"));
        let detail = shown.message.map_or_else(String::new, |message| format!(": {message}"));
        step("instance", format!("{} is {}{address}{detail}", shown.name, shown.state));
    }
    let answer = answer(route);
    Explanation { hostname: host.to_string(), answer, steps }
}

fn answer(route: &AppRoute) -> String {
    match &route.state {
        RouteState::Serving(endpoints) => {
            let names: Vec<_> = endpoints.iter().map(|e| e.instance.to_string()).collect();
            format!("answered by {}", names.join(" or "))
        }
        RouteState::Asleep(level) => format!("held while the app wakes (it is {level})"),
        RouteState::Starting => "held while the app starts".to_owned(),
        RouteState::Unavailable { reason, .. } => format!("503: {reason}"),
    }
}
