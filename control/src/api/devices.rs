//! `/v1/devices`: who may become a device, and who is one. What runs on them is said by the hosts
//! of the same names.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use weir_config::{Host, HostName, HostSpec, Problem, Problems, Span, decode};

use super::{
    ApiState,
    call::{Call, parse_name},
    problem::ApiProblem,
    query::Params,
    wire::{
        DeviceInvite, DeviceResource, DeviceState, InviteRequest, List, ProblemDetails,
        RenameRequest,
    },
};
use crate::{
    devices::Gatekeeper,
    store::{DeviceRecord, Invite, Token},
    time::{rfc3339, unix_millis},
};

/// An invitation is used at once or lies around.
const INVITE_FOR: Duration = Duration::from_hours(1);
const LONGEST_INVITE: Duration = Duration::from_hours(30 * 24);
const MAX_LABELS: usize = 50;

/// All devices, by name.
#[utoipa::path(get, path = "/v1/devices",
    responses((status = 200, body = List<DeviceResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
) -> Result<Json<List<DeviceResource>>, ApiProblem> {
    let devices = state.store.devices().await?;
    let items = devices.into_iter().map(|device| shown(&state, device)).collect();
    Ok(Json(List::whole(items)))
}

/// One device.
#[utoipa::path(get, path = "/v1/devices/{name}",
    responses((status = 200, body = DeviceResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<DeviceResource>, ApiProblem> {
    Ok(Json(shown(&state, stored(&state, &parse_name(&name)?).await?)))
}

/// Invites a device: its token is good once, and told only now.
#[utoipa::path(post, path = "/v1/devices/actions/invite", request_body = InviteRequest,
    responses((status = 200, body = DeviceInvite), (status = 409, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn invite(call: Call) -> Result<Json<DeviceInvite>, ApiProblem> {
    let gate = gate(&call.state)?;
    let InviteRequest { name, labels, ttl } = call.request()?;
    let mut problems = Problems::default();
    let name = name.and_then(|name| problems.take("/name", "bad_name", name.parse::<HostName>()));
    if name.as_ref().is_some_and(HostName::is_local) {
        let message = "`local` is the machine that Weir runs on";
        problems.push(Problem::new("/name", "conflict", message));
    }
    if labels.len() > MAX_LABELS {
        let message = format!("a device has at most {MAX_LABELS} labels");
        problems.push(Problem::new("/labels", "too_many", message));
    }
    let Span(ttl) = ttl.unwrap_or(Span(INVITE_FOR));
    if ttl.is_zero() || ttl > LONGEST_INVITE {
        let message = format!("write more than nothing, and at most {}", Span(LONGEST_INVITE));
        problems.push(Problem::new("/ttl", "out_of_range", message));
    }
    if let Some(name) = &name
        && let Some(host) = call.state.store.find::<Host>(name).await?
        && host.spec.engine.as_deref() != Some(HostSpec::DEVICE)
    {
        let message = format!("the host `{name}` is no device; choose another name");
        problems.push(Problem::new("/name", "taken", message));
    }
    let expires_at = unix_millis() + ttl.as_millis() as i64;
    let invite = problems.or_value(Invite { name, labels, expires_at })?;
    let token = gate.invite(&invite).await?;
    tracing::info!(actor = call.token.id, name = invite.name.as_deref(), "a device is invited");
    let control = gate.address.clone().unwrap_or_else(|| "HOST:8601".to_owned());
    let command = format!("weir-agent enroll --control {control} --token {token}");
    Ok(Json(DeviceInvite { token, control, command, expires_at: rfc3339(expires_at) }))
}

/// Takes a device's identity from it: it is cut off at once and never let in again. What runs
/// there goes on, unheard of, until somebody ends it there.
#[utoipa::path(post, path = "/v1/devices/{name}/actions/revoke",
    responses((status = 200, body = DeviceResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn revoke(
    Path(name): Path<String>,
    call: Call,
) -> Result<Json<DeviceResource>, ApiProblem> {
    let name: HostName = parse_name(&name)?;
    if !gate(&call.state)?.revoke(&name).await? {
        return Err(no_device(&name));
    }
    tracing::warn!(actor = call.token.id, device = %name, "a device is revoked");
    Ok(Json(shown(&call.state, stored(&call.state, &name).await?)))
}

/// Gives a device another name, by which it comes again at once. Refused while something runs
/// there, because that would be something else by the new name.
#[utoipa::path(post, path = "/v1/devices/{name}/actions/rename", request_body = RenameRequest,
    responses((status = 200, body = DeviceResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails), (status = 422, body = ProblemDetails)))]
pub(crate) async fn rename(
    Path(name): Path<String>,
    call: Call,
) -> Result<Json<DeviceResource>, ApiProblem> {
    let (state, name): (_, HostName) = (&call.state, parse_name(&name)?);
    let RenameRequest { to } = decode(call.json()?)?;
    let to = to.parse::<HostName>();
    let to = to.map_err(|why| Problems(vec![Problem::new("/to", "bad_name", why)]))?;
    stored(state, &name).await?;
    if state.world().observed.instances.keys().any(|id| id.host == name) {
        let why = format!("something runs on `{name}`; drain it first: weir host drain {name}");
        return Err(ApiProblem::conflict("host_in_use", why));
    }
    let renamed = match to.is_local() {
        true => false,
        false => state.store.rename_device(&name, &to, |verb| call.cause(verb)).await?,
    };
    if !renamed {
        return Err(ApiProblem::conflict("name_taken", format!("the name `{to}` is taken")));
    }
    gate(state)?.connected.disconnect(&name);
    Ok(Json(shown(state, stored(state, &to).await?)))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateQuery {
    /// The digest of the program, in hex.
    sha256: String,
}

/// Sends a device a newer program of its agent, which is the body. The agent starts anew as that,
/// and as the former one again if it does not come back within a minute; which of them it is says
/// `about.program`. What runs on the device is not touched.
#[utoipa::path(post, path = "/v1/devices/{name}/actions/update", params(UpdateQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 202, body = DeviceResource), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails), (status = 422, body = ProblemDetails)))]
pub(crate) async fn update(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Extension(token): Extension<Token>,
    Params(query): Params<UpdateQuery>,
    program: Bytes,
) -> Result<(StatusCode, Json<DeviceResource>), ApiProblem> {
    let name: HostName = parse_name(&name)?;
    let device = stored(&state, &name).await?;
    let digest: String = Sha256::digest(&program).iter().map(|b| format!("{b:02x}")).collect();
    if digest != query.sha256.to_ascii_lowercase() {
        let why = format!("what was sent is another program: its SHA-256 is {digest}");
        return Err(Problems(vec![Problem::new("/sha256", "mismatch", why)]).into());
    }
    let away = || ApiProblem::conflict("not_connected", format!("`{name}` is not connected"));
    let link = gate(&state)?.connected.link(&name).ok_or_else(away)?;
    tracing::info!(actor = token.id, device = %name, digest, "gets a newer program");
    match link.update(&digest, program).await {
        Ok(Ok(())) => Ok((StatusCode::ACCEPTED, Json(shown(&state, device)))),
        Ok(Err(why)) => Err(ApiProblem::conflict("refused", format!("the device refuses: {why}"))),
        Err(error) => Err(ApiProblem::unavailable(&format!("the connection broke: {error}"))),
    }
}

fn gate(state: &ApiState) -> Result<&Gatekeeper, ApiProblem> {
    state.devices.as_deref().ok_or_else(|| {
        let why = "no devices are let in; start Weir with --devices ADDRESS:PORT";
        ApiProblem::conflict("no_devices", why.to_owned())
    })
}

pub(super) async fn stored(state: &ApiState, name: &HostName) -> Result<DeviceRecord, ApiProblem> {
    state.store.device(name).await?.ok_or_else(|| no_device(name))
}

fn no_device(name: &str) -> ApiProblem {
    ApiProblem::not_found(&format!("there is no device `{name}`"))
}

pub(super) fn shown(state: &ApiState, device: DeviceRecord) -> DeviceResource {
    let DeviceRecord { name, fingerprint, about, enrolled_at, seen_at, revoked_at, node } = device;
    let is_connected =
        state.devices.as_ref().is_some_and(|gate| gate.connected.is_connected(&name));
    let world = state.world();
    let labels = world.desired.hosts.get(&name).map(|host| host.labels.clone());
    DeviceResource {
        kind: "Device".to_owned(),
        state: match revoked_at {
            Some(_) => DeviceState::Revoked,
            None if is_connected => DeviceState::Connected,
            None => DeviceState::Away,
        },
        instances: world.observed.instances.keys().filter(|id| id.host == name).count() as u64,
        name: name.to_string(),
        fingerprint,
        tailnet_node: node,
        labels: labels.unwrap_or_default(),
        about,
        enrolled_at: rfc3339(enrolled_at),
        seen_at: rfc3339(seen_at),
        revoked_at: revoked_at.map(rfc3339),
    }
}
