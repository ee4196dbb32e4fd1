//! Why a host name gets what it gets.

use axum::{
    Json,
    extract::{Path, State},
};
use weir_config::{
    AppRoute, Backends, Choice, DesiredApp, HashKey, HostPath, Moment, Pool, RouteState, ShardName,
    Snapshot, Steered, SteeredTarget, WHOLE,
};

use super::{
    ApiState,
    problem::ApiProblem,
    wire::{Explanation, MemberStatus, Step},
};
use crate::{reconciler::World, status, store::IncidentQuery};

/// More members than this are only counted.
const MAX_MEMBERS: usize = 20;
const MAX_INCIDENTS: i64 = 10;

/// Follows a host name from its route to the processes behind it. With a path, percent-encoded as
/// in `www.example.com%2Fshop`, it follows that.
#[utoipa::path(get, path = "/v1/hostnames/{hostname}/explain",
    responses((status = 200, body = Explanation)))]
pub(crate) async fn explain(
    State(state): State<ApiState>,
    Path(hostname): Path<String>,
) -> Result<Json<Explanation>, ApiProblem> {
    let host: HostPath =
        hostname.parse().map_err(|why| ApiProblem::bad_request("bad_hostname", why))?;
    let world = state.world();
    let mut explanation = state.explanation(&host, &world);
    if let Some(route) = world.observed.served.route(&host.host, host.path()) {
        let query = IncidentQuery {
            is_open: Some(true),
            subject: Some(format!("App/{}", route.app)),
            limit: MAX_INCIDENTS,
            ..IncidentQuery::default()
        };
        // They are told beside the explanation; without them it is as good.
        let open = state.store.incidents(&query).await.unwrap_or_default();
        let steps = open.into_iter().map(|incident| {
            step("incident", format!("{} ({}): {}", incident.title, incident.id, incident.detail))
        });
        explanation.steps.extend(steps);
    }
    Ok(Json(explanation))
}

impl ApiState {
    fn explanation(&self, host: &HostPath, world: &World) -> Explanation {
        let snapshot = &world.observed.served;
        let generation = snapshot.generation;
        let hostname = host.to_string();
        let Some(route) = snapshot.route(&host.host, host.path()) else {
            let finding =
                format!("no route of snapshot {generation} matches, nor a wildcard above it");
            let answer = "404: no app is served at this name".to_owned();
            return Explanation { hostname, answer, steps: vec![step("route", finding)] };
        };
        let (how, name) = (how(route, host), &route.app);
        let mut steps =
            vec![step("route", format!("snapshot {generation} matches it {how}: app {name}"))];
        match world.desired.apps.get(name) {
            Some(app) => self.follow_app(app, world, &mut steps),
            None => steps.push(step("app", "it is being deleted".to_owned())),
        }
        match &route.state {
            RouteState::Serving(Backends::Shards(shards)) => {
                self.follow_shards(shards, host, world, &mut steps);
            }
            RouteState::Serving(Backends::Failover(policy)) => {
                steps
                    .extend(snapshot.policy(policy).into_iter().flat_map(|policy| targets(policy)));
            }
            _ => {}
        }
        Explanation { hostname, answer: answer(route, snapshot, host), steps }
    }

    fn follow_app(&self, app: &DesiredApp, world: &World, steps: &mut Vec<Step>) {
        let status = status::app_status(app, world, &self.activity, Moment::now(), self.https_port);
        let phase = status.phase.as_str();
        steps.push(step("app", format!("generation {}, {phase}", app.generation)));
        if let Some(deployment) = app.target() {
            let (number, image) = (deployment.number, &deployment.template.image);
            steps.push(step("deployment", format!("number {number} of image {image}")));
        }
        for (id, instance) in world.observed.instances_of(&app.app.name) {
            let shown = status::instance(id, instance, &self.activity);
            let address = shown.address.map_or_else(String::new, |at| format!(" at {at}"));
            let detail = shown.message.map_or_else(String::new, |message| format!(": {message}"));
            let finding = format!("{} is {}{address}{detail}", shown.name, shown.state);
            steps.push(step("instance", finding));
        }
        steps.extend(members("upstream", &status.upstreams));
    }

    fn follow_shards(
        &self,
        shards: &[ShardName],
        host: &HostPath,
        world: &World,
        steps: &mut Vec<Step>,
    ) {
        let snapshot = &world.observed.served;
        let Some(name) = Snapshot::shard_of(shards, &host.host) else { return };
        let why = match shards.len() {
            1 => String::new(),
            count => format!(", by the host name among {count}"),
        };
        let balance = snapshot.shard(name).map(|pool| balance(pool)).unwrap_or_default();
        steps.push(step("shard", format!("{name}{why}; {balance}")));
        if let Some(shard) = world.desired.shards.get(name) {
            let status = status::shard_status(shard, 0, &world.observed, &self.activity);
            steps.extend(members("member", &status.members));
        }
    }
}

/// Who gets how much, and where that is.
fn targets(steered: &Steered) -> Vec<Step> {
    let epoch = steered.steering.epoch;
    let policy = format!("{}, by epoch {epoch} of its shares", steered.policy);
    let shares = steered.steering.shares.as_slice();
    let target = |(target, share): (&SteeredTarget, &u16)| {
        let addresses: Vec<_> =
            target.pool.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect();
        let (name, percent) = (&target.name, f64::from(*share) / f64::from(WHOLE) * 100.0);
        let state = if target.is_down { "is down" } else { "is not down" };
        let at = match addresses.is_empty() {
            true => "without an address".to_owned(),
            false => format!("at {}", addresses.join(", ")),
        };
        step("target", format!("{name} {state}, {at}, and has {percent} % of the clients"))
    };
    let targets = steered.targets.iter().zip(shares).map(target);
    std::iter::once(step("failover", policy)).chain(targets).collect()
}

fn step(subject: &str, finding: String) -> Step {
    Step { subject: subject.to_owned(), finding }
}

fn how(route: &AppRoute, host: &HostPath) -> &'static str {
    if route.hostnames.contains(host) {
        "exactly"
    } else if route.hostnames.iter().any(|hostname| hostname.host == host.host) {
        "below a path"
    } else {
        "by a wildcard"
    }
}

fn balance(pool: &Pool) -> String {
    let ready = pool.endpoints().len();
    match &pool.balance().hash {
        Some(key) => format!("{} chooses among {ready} ready members", key_in_words(key)),
        None => format!("the less loaded of two of {ready} ready members"),
    }
}

fn key_in_words(key: &HashKey) -> String {
    match key {
        HashKey::Host => "the host name".to_owned(),
        HashKey::Ip => "the client's address".to_owned(),
        HashKey::Path => "the path".to_owned(),
        HashKey::Cookie(name) => format!("the cookie `{name}`"),
        HashKey::Header(name) => format!("the header `{name}`"),
    }
}

fn members(subject: &str, members: &[MemberStatus]) -> Vec<Step> {
    let shown = members.iter().take(MAX_MEMBERS).map(|member| {
        let MemberStatus { name, address, state, message, .. } = member;
        let at = if name == address { String::new() } else { format!(" at {address}") };
        let detail = message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
        step(subject, format!("{name} is {state}{at}{detail}"))
    });
    let more = members.len().saturating_sub(MAX_MEMBERS);
    let rest = (more > 0).then(|| step(subject, format!("and {more} more")));
    shown.chain(rest).collect()
}

fn answer(route: &AppRoute, snapshot: &Snapshot, host: &HostPath) -> String {
    if let Some(to) = route.policy.redirects.get(&host.host) {
        return format!("308: it leads to {to}");
    }
    match &route.state {
        RouteState::Serving(Backends::Failover(policy)) => match snapshot.policy(policy) {
            Some(steered) if !steered.steering.shares.is_nobody() => {
                format!("answered by a target of the failover policy {policy}, by the client")
            }
            _ => format!("503: no target of the failover policy {policy} has a share"),
        },
        RouteState::Serving(backends) => match snapshot.pool(backends, &host.host) {
            Some(pool) if !pool.endpoints().is_empty() => answered(pool, &host.host),
            _ => "503: no member of the shard passes its health check".to_owned(),
        },
        RouteState::Asleep(level) => format!("held while the app wakes (it is {level})"),
        RouteState::Starting => "held while the app starts".to_owned(),
        RouteState::Unavailable { reason, .. } => format!("503: {reason}"),
    }
}

fn answered(pool: &Pool, host: &str) -> String {
    if pool.balance().hash == Some(HashKey::Host) {
        let choice = Choice { key: Some(HashKey::hash(host)), random: 0, now: Moment::now() };
        let owner = pool.pick(choice, |_| true).map(|endpoint| &endpoint.id);
        return owner.map_or_else(String::new, |id| format!("answered by {id}, by the host name"));
    }
    let names: Vec<_> = pool.endpoints().iter().map(|e| e.id.to_string()).collect();
    match names.len() {
        0..=MAX_MEMBERS => format!("answered by {}", names.join(" or ")),
        count => format!("answered by one of {count}"),
    }
}
