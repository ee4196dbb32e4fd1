//! The admin API: resources under `/v1`, problems by RFC 9457, bearer tokens.

mod apps;
mod auth;
mod call;
mod certificates;
mod deployment_logs;
mod deployments;
mod devices;
mod discovery;
mod domains;
mod edge;
mod events;
mod explain;
mod failover;
mod hosts;
mod idempotency;
mod incidents;
mod instances;
mod issuers;
mod logs;
mod notifiers;
mod openapi;
mod operations;
mod problem;
mod providers;
mod query;
mod records;
mod secrets;
mod shards;
mod snapshot;
mod sse;
mod wait;
mod watches;
pub mod wire;
mod zones;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use tokio::sync::{Notify, mpsc, watch};
use weir_config::{Activity, Hostname};

use crate::{
    certificates::Command,
    control::ControlError,
    devices::Gatekeeper,
    domains::Domains,
    engines::Providers,
    event::Event,
    failover::FailoverHandle,
    history::Transitions,
    host::HostSeen,
    providers::AllCarried,
    reconciler::World,
    state_dir::{StateDir, write_private},
    store::Store,
    vault::Vault,
};
use problem::ApiProblem;

/// A spec is text that somebody wrote; more than this is a mistake.
const MAX_BODY: usize = 1 << 20;
/// A zone of a million names, as text.
const MAX_ZONE_FILE: usize = 256 << 20;

/// An agent's program.
const MAX_PROGRAM: usize = 256 << 20;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub(crate) store: Store,
    pub(crate) vault: Vault,
    pub(crate) world: watch::Receiver<Arc<World>>,
    pub(crate) transitions: watch::Receiver<Transitions>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) events: mpsc::Sender<Event>,
    /// Of certificates.
    pub(crate) keeper: mpsc::Sender<Command>,
    pub(crate) domains: watch::Receiver<Domains>,
    /// Those that somebody wants to know of now.
    pub(crate) domain_checks: mpsc::Sender<Hostname>,
    pub(crate) providers: Providers,
    /// Lets devices in, if any may come.
    pub(crate) devices: Option<Arc<Gatekeeper>>,
    pub(crate) failover: FailoverHandle,
    /// How far providers are.
    pub(crate) carried: watch::Receiver<AllCarried>,
    pub(crate) base_domain: Hostname,
    pub(crate) metrics: prometheus::Registry,
    pub(crate) https_port: u16,
    /// Told when an operator has resolved an incident.
    pub(crate) incidents_changed: Arc<Notify>,
    /// True when the process gives up its control: no stream outlives that.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl ApiState {
    /// The world as the loop left it.
    fn world(&self) -> Arc<World> {
        self.world.borrow().clone()
    }
}

pub(crate) fn router(state: ApiState) -> Router {
    let resources = Router::new()
        .route("/v1/apps", get(apps::list).post(apps::create))
        .route("/v1/apps/{name}", get(apps::read).put(apps::put).delete(apps::delete))
        .route("/v1/apps/{name}/actions/deploy", post(deployments::deploy))
        .route("/v1/apps/{name}/actions/redeploy", post(deployments::redeploy))
        .route("/v1/apps/{name}/actions/promote", post(deployments::promote))
        .route("/v1/apps/{name}/actions/rollback", post(deployments::roll_back))
        .route("/v1/apps/{name}/actions/cancel", post(deployments::cancel))
        .route("/v1/apps/{name}/actions/preview", post(deployments::preview))
        .route("/v1/apps/{name}/deployments", get(deployments::list))
        .route("/v1/apps/{name}/deployments/{number}", get(deployments::read))
        .route("/v1/apps/{name}/actions/sleep", post(apps::sleep))
        .route("/v1/apps/{name}/actions/wake", post(apps::wake))
        .route("/v1/apps/{name}/logs", get(logs::logs))
        .route("/v1/apps/{name}/secrets", get(secrets::list).patch(secrets::patch))
        .route("/v1/apps/{name}/secrets/{key}", put(secrets::put).delete(secrets::delete))
        .route("/v1/secrets/actions/rotate-key", post(secrets::rotate_key))
        .route("/v1/shards", get(shards::list))
        .route("/v1/shards/{name}", get(shards::read).put(shards::put).delete(shards::delete))
        .route("/v1/instances", get(instances::instances))
        .route("/v1/hosts", get(hosts::list))
        .route("/v1/hosts/{name}", get(hosts::read).put(hosts::put).delete(hosts::delete))
        .route("/v1/hosts/{name}/actions/cordon", post(hosts::cordon))
        .route("/v1/hosts/{name}/actions/uncordon", post(hosts::uncordon))
        .route("/v1/hosts/{name}/actions/drain", post(hosts::drain))
        .route("/v1/devices", get(devices::list))
        .route("/v1/devices/{name}", get(devices::read))
        .route("/v1/devices/actions/invite", post(devices::invite))
        .route("/v1/devices/{name}/actions/revoke", post(devices::revoke))
        .route("/v1/devices/{name}/actions/rename", post(devices::rename))
        .route(
            "/v1/devices/{name}/actions/update",
            post(devices::update).layer(DefaultBodyLimit::max(MAX_PROGRAM)),
        )
        .route("/v1/discovery", get(discovery::list))
        .route("/v1/discovery/{name}", get(discovery::read))
        .route("/v1/edge/deploy_to_edge", post(edge::deploy_to_edge))
        .route("/v1/edge/get_address/{name}", get(edge::get_address))
        .route("/v1/edge/stop_container/{name}", post(edge::stop_container))
        .route("/v1/edge/delete_container/{name}", post(edge::delete_container))
        .route("/v1/edge/health_check/{name}", get(edge::health_check))
        .route("/v1/hosts/actions/converge", post(hosts::converge))
        .route("/v1/shards/{name}/actions/converge", post(hosts::converge_shard))
        .route("/v1/shards/{name}/actions/deploy", post(shards::deploy))
        .route("/v1/apps/{name}/deployments/{number}/logs", get(deployment_logs::logs))
        .route("/v1/apps/{name}/events", get(events::of_app))
        .route("/v1/events", get(events::list))
        .route("/v1/operations", get(operations::list))
        .route("/v1/operations/{id}", get(operations::read))
        .route("/v1/operations/{id}/actions/cancel", post(operations::cancel))
        .route("/v1/audit", get(operations::audit))
        .route("/v1/hostnames/{hostname}/explain", get(explain::explain))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/incidents/{id}", get(incidents::read))
        .route("/v1/incidents/{id}/actions/acknowledge", post(incidents::acknowledge))
        .route("/v1/incidents/{id}/actions/resolve", post(incidents::resolve))
        .route("/v1/incidents/{id}/actions/note", post(incidents::note))
        .route("/v1/failover-policies", get(failover::list))
        .route(
            "/v1/failover-policies/{name}",
            get(failover::read).put(failover::put).delete(failover::delete),
        )
        .route("/v1/failover-policies/{name}/status", get(failover::status))
        .route("/v1/failover-policies/{name}/actions/force", post(failover::force))
        .route("/v1/failover-policies/{name}/actions/freeze", post(failover::freeze))
        .route("/v1/failover-policies/{name}/actions/release", post(failover::release))
        .route("/v1/failover-policies/{name}/actions/simulate", post(failover::simulate))
        .route("/v1/providers", get(providers::list))
        .route(
            "/v1/providers/{name}",
            get(providers::read).put(providers::put).delete(providers::delete),
        )
        .route("/v1/providers/{name}/actions/preview", post(providers::preview))
        .route("/v1/providers/{name}/actions/test", post(providers::test))
        .route("/v1/providers/{name}/actions/purge", post(providers::purge))
        .route("/v1/providers/{name}/custom-hostnames", get(providers::custom_hostnames))
        .route("/v1/notifiers", get(notifiers::list))
        .route(
            "/v1/notifiers/{name}",
            get(notifiers::read).put(notifiers::put).delete(notifiers::delete),
        )
        .route("/v1/notifiers/{name}/actions/preview", post(notifiers::preview))
        .route("/v1/notifiers/{name}/actions/test", post(notifiers::test))
        .route("/v1/certificates", get(certificates::list).post(certificates::upload))
        .route("/v1/certificates/{name}", get(certificates::read).delete(certificates::delete))
        .route("/v1/certificates/{name}/actions/renew", post(certificates::renew))
        .route("/v1/domains", get(domains::list))
        .route("/v1/domains/{name}", get(domains::read))
        .route("/v1/domains/{name}/actions/check", post(domains::check))
        .route("/v1/issuers", get(issuers::list))
        .route("/v1/issuers/{name}", get(issuers::read).put(issuers::put).delete(issuers::delete))
        .route("/v1/issuers/{name}/actions/preview", post(issuers::preview))
        .route("/v1/zones", get(zones::list))
        .route("/v1/zones/{name}", get(zones::read).put(zones::put).delete(zones::delete))
        .route("/v1/zones/{name}/records", get(records::list).patch(records::patch))
        .route(
            "/v1/zones/{name}/records/{record}/{type}",
            get(records::read).put(records::put).delete(records::delete),
        )
        .route("/v1/zones/{name}/export", get(records::export))
        .route(
            "/v1/zones/{name}/actions/import",
            post(records::import).layer(DefaultBodyLimit::max(MAX_ZONE_FILE)),
        )
        .route("/v1/snapshot", get(snapshot::read))
        .route("/v1/snapshot/actions/confirm", post(snapshot::confirm))
        .route("/v1/watch", get(watches::watch))
        .layer(middleware::from_fn_with_state(state.clone(), idempotency::once))
        .layer(middleware::from_fn_with_state(state.clone(), auth::require_token));
    Router::new()
        .merge(resources)
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(|| async {
            ApiProblem::not_found("there is nothing at this path; see /openapi.json")
        })
        .method_not_allowed_fallback(|| async { ApiProblem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(state)
}

/// Whether apps can be made and changed: an engine answers.
async fn ready(State(state): State<ApiState>) -> Result<&'static str, ApiProblem> {
    let hosts = &state.world().observed.hosts;
    if hosts.values().any(HostSeen::answers) {
        return Ok("ready\n");
    }
    let error = hosts.values().find_map(|host| host.error.as_deref());
    Err(ApiProblem::unavailable(error.unwrap_or("the container engine has not answered yet")))
}

async fn metrics(State(state): State<ApiState>) -> Response {
    match prometheus::TextEncoder::new().encode_to_string(&state.metrics.gather()) {
        Ok(text) => {
            ([(axum::http::header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
        }
        Err(error) => ApiProblem::internal(&error).into_response(),
    }
}

/// Leaves the API's address for the command line, beside the token.
pub(crate) fn write_url(dir: &StateDir, address: SocketAddr) -> Result<(), ControlError> {
    let file = dir.file("admin.url");
    let reachable = match address {
        any if any.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], any.port())),
        one => one,
    };
    write_private(&file, format!("http://{reachable}").as_bytes())
        .map_err(|error| ControlError::File { file, error })
}
