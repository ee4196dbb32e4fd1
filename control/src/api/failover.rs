//! `/v1/failover-policies`: who serves some host names, and by what law that changes.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde_json::Value;
use weir_config::{
    DnsName, FailoverManifest, FailoverName, FailoverPolicy, FailoverSpec, Hostname, Problem,
    Problems, Span, TargetName, decode,
};

use super::{
    ApiState,
    call::{Answer, Call, Parsed, Shown},
    operations::with_operation,
    problem::ApiProblem,
    providers::carried_policy,
    query::{PageQuery, Params},
    wait::WaitQuery,
    wire::{
        FailoverHealth, FailoverResource, FailoverSimulation, FailoverStatus, ForceRequest,
        FreezeRequest, List, Phase, ProblemDetails, SimulateRequest,
    },
};
use crate::{
    failover::{self, FailoverOrder, NotObeyed, Simulation, TargetStatus},
    reconciler::World,
    status,
    store::{OperationState, Record, Verb},
};

impl Parsed for FailoverPolicy {
    fn parse(value: Value, _: &Hostname) -> Result<(FailoverSpec, Self), Problems> {
        let (manifest, policy) = Self::read(value)?;
        Ok((manifest.spec, policy))
    }
}

impl Shown for FailoverPolicy {
    type Status = FailoverStatus;

    fn status(record: &Record<Self>, _: &ApiState, world: &World) -> Option<FailoverStatus> {
        // A policy as the loop has it does not say of which generation it is.
        let is_this_one = world.desired.revision >= record.meta.revision;
        let is_known = is_this_one && world.desired.policies.contains_key(&record.name);
        let observed_generation = record.meta.generation;
        is_known.then_some(FailoverStatus { phase: Phase::Ready, observed_generation })
    }

    fn unseen(_: &Record<Self>) -> FailoverStatus {
        FailoverStatus { phase: Phase::Progressing, observed_generation: 0 }
    }

    fn is_settled(status: &FailoverStatus) -> bool {
        status.phase.is_settled()
    }
}

/// All failover policies, by name.
#[utoipa::path(get, path = "/v1/failover-policies", params(PageQuery),
    responses((status = 200, body = List<FailoverResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Answer {
    state.list::<FailoverPolicy>(&query).await
}

/// One failover policy.
#[utoipa::path(get, path = "/v1/failover-policies/{name}", params(WaitQuery),
    responses((status = 200, body = FailoverResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(call: Call) -> Answer {
    call.read::<FailoverPolicy>().await
}

/// Makes a failover policy what is written here, new or not.
#[utoipa::path(put, path = "/v1/failover-policies/{name}", params(WaitQuery),
    request_body = FailoverManifest,
    responses((status = 200, body = FailoverResource), (status = 201, body = FailoverResource),
        (status = 409, body = ProblemDetails), (status = 412, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(call: Call) -> Answer {
    call.put::<FailoverPolicy>().await
}

/// Deletes a failover policy, and what it had decided.
#[utoipa::path(delete, path = "/v1/failover-policies/{name}",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails)))]
pub(crate) async fn delete(call: Call) -> Answer {
    call.delete::<FailoverPolicy>().await
}

/// How the names of a policy are served: phase, shares, health, and what holds.
#[utoipa::path(get, path = "/v1/failover-policies/{name}/status",
    responses((status = 200, body = FailoverHealth), (status = 404, body = ProblemDetails),
        (status = 503, body = ProblemDetails)))]
pub(crate) async fn status(call: Call) -> Answer {
    let record = call.state.store.read::<FailoverPolicy>(&call.name::<FailoverPolicy>()?).await?;
    let status = call.state.failover.status(&record.name).await.ok_or_else(not_yet)?;
    health(&call.state, &record.name, &status)
}

/// Sends all clients to one target, for a while, whatever is known of it.
#[utoipa::path(post, path = "/v1/failover-policies/{name}/actions/force",
    request_body = ForceRequest,
    responses((status = 202, body = FailoverHealth), (status = 404, body = ProblemDetails),
        (status = 422, body = ProblemDetails), (status = 503, body = ProblemDetails)))]
pub(crate) async fn force(call: Call) -> Answer {
    let ForceRequest { target, r#for } = decode(call.json()?)?;
    let mut problems = Problems::default();
    check_time(r#for, &mut problems);
    let target = problems.take("/target", "bad_name", target.parse::<TargetName>());
    let Some(target) = target else { return Err(problems.into()) };
    problems.or_value(())?;
    obey(&call, Verb::Force, FailoverOrder::Force(target, r#for.0)).await
}

/// Leaves everything as it is, for a while.
#[utoipa::path(post, path = "/v1/failover-policies/{name}/actions/freeze",
    request_body = FreezeRequest,
    responses((status = 202, body = FailoverHealth), (status = 404, body = ProblemDetails),
        (status = 422, body = ProblemDetails), (status = 503, body = ProblemDetails)))]
pub(crate) async fn freeze(call: Call) -> Answer {
    let FreezeRequest { r#for } = call.request()?;
    let mut problems = Problems::default();
    check_time(r#for, &mut problems);
    problems.or_value(())?;
    obey(&call, Verb::Freeze, FailoverOrder::Freeze(r#for.0)).await
}

/// Has the law decide again. Who had no clients meanwhile comes back by steps.
#[utoipa::path(post, path = "/v1/failover-policies/{name}/actions/release",
    responses((status = 202, body = FailoverHealth), (status = 404, body = ProblemDetails),
        (status = 503, body = ProblemDetails)))]
pub(crate) async fn release(call: Call) -> Answer {
    obey(&call, Verb::Release, FailoverOrder::Release).await
}

/// Says what would be answered if some targets were down, or well; nothing is changed.
#[utoipa::path(post, path = "/v1/failover-policies/{name}/actions/simulate",
    request_body = SimulateRequest,
    responses((status = 200, body = FailoverSimulation), (status = 404, body = ProblemDetails),
        (status = 422, body = ProblemDetails), (status = 503, body = ProblemDetails)))]
pub(crate) async fn simulate(call: Call) -> Answer {
    let (state, name) = (&call.state, call.name::<FailoverPolicy>()?);
    state.store.read::<FailoverPolicy>(&name).await?;
    let simulation = simulation(call.request()?)?;
    let simulated = state.failover.simulate(&name, simulation).await?;
    let status = state.failover.status(&name).await.ok_or_else(not_yet)?;
    let world = state.world();
    let policy = world.desired.policies.get(&name).ok_or_else(not_yet)?;
    // Where this Weir is, by the zone of the first name that is in one.
    let zones = policy.hostnames.iter().map(DnsName::from);
    let zone = zones.filter_map(|name| world.observed.zones.zone_of(&name)).next();
    let zone = zone.and_then(|zone| world.desired.zones.get(zone));
    let own = zone.map(|zone| zone.zone.addresses.as_slice()).unwrap_or_default();
    Ok(Json(status::simulation(policy, &status, &simulated, own)).into_response())
}

/// Networks of documentation (RFC 5737, RFC 3849), for who names no clients.
const EXAMPLES: [&str; 4] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/56"];
const MOST_CLIENTS: usize = 1000;

fn simulation(request: SimulateRequest) -> Result<Simulation, Problems> {
    let SimulateRequest { down, up, mut clients } = request;
    if clients.is_empty() {
        clients = EXAMPLES.map(str::to_owned).to_vec();
    }
    let mut problems = Problems::default();
    if clients.len() > MOST_CLIENTS {
        let message = format!("at most {MOST_CLIENTS} at once");
        problems.push(Problem::new("/clients", "out_of_range", message));
    }
    let mut targets = BTreeMap::new();
    for (field, names, is_well) in [("down", down, false), ("up", up, true)] {
        for (i, name) in names.iter().enumerate() {
            let name = problems.take(&format!("/{field}/{i}"), "bad_name", name.parse());
            targets.extend(name.map(|name| (name, is_well)));
        }
    }
    let mut address = |(i, client): (usize, &String)| {
        let address = client.split('/').next().unwrap_or_default();
        let wrong = |_| format!("`{client}` is no client; write it as 192.0.2.0/24 or 192.0.2.1");
        problems.take(&format!("/clients/{i}"), "bad_address", address.parse().map_err(wrong))
    };
    let clients = clients.iter().enumerate().filter_map(&mut address).collect();
    problems.or_value(Simulation { targets, clients })
}

/// Who is held longer than this is forgotten.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn check_time(time: Span, problems: &mut Problems) {
    if time.0 > LONGEST || time.0.is_zero() {
        let message = "write a time of at most 30 days, as 2h";
        problems.push(Problem::new("/for", "out_of_range", message));
    }
}

/// Gives an order, and has it in the audit log with what came of it.
async fn obey(call: &Call, verb: Verb, order: FailoverOrder) -> Answer {
    let state = &call.state;
    let record = state.store.read::<FailoverPolicy>(&call.name::<FailoverPolicy>()?).await?;
    if let FailoverOrder::Force(target, _) = &order
        && !record.spec.targets.iter().any(|one| *one.name == **target)
    {
        return Err(NotObeyed::NoTarget(target.clone()).into());
    }
    let obeyed = state.failover.order(&record.name, order).await;
    let (ended, message) = match &obeyed {
        Ok(status) => (OperationState::Succeeded, words(status)),
        Err(error) => (OperationState::Failed, error.to_string()),
    };
    let cause = call.cause(verb);
    let operation = state.store.act_ended(cause, record.target(), ended, message).await?;
    let answer = health(state, &record.name, &obeyed?)?;
    let answer = (StatusCode::ACCEPTED, answer).into_response();
    Ok(with_operation(answer, Some(&operation)))
}

/// Who has which share now.
fn words(status: &failover::FailoverStatus) -> String {
    let share = |target: &TargetStatus| format!("{} {} %", target.name, target.share / 100);
    status.targets.iter().map(share).collect::<Vec<_>>().join(", ")
}

fn health(state: &ApiState, name: &FailoverName, status: &failover::FailoverStatus) -> Answer {
    let world = state.world();
    let policy = world.desired.policies.get(name).ok_or_else(not_yet)?;
    let mut health = status::failover_health(policy, status, &world);
    health.elsewhere =
        state.carried.borrow().get(name).map(|carried| carried_policy(name, carried));
    Ok(Json(health).into_response())
}

fn not_yet() -> ApiProblem {
    ApiProblem::from(NotObeyed::NoPolicy)
}

impl From<NotObeyed> for ApiProblem {
    fn from(error: NotObeyed) -> Self {
        let why = error.to_string();
        match error {
            NotObeyed::NoPolicy => Self::unavailable(&why),
            NotObeyed::NoTarget(_) => {
                Problems(vec![Problem::new("/target", "no_target", why)]).into()
            }
            NotObeyed::NotKept => Self::internal(&error),
        }
    }
}
