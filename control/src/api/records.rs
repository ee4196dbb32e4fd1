//! `/v1/zones/NAME/records`: the records of a zone, and the zone as a file.

use std::{collections::BTreeMap, fmt, str::FromStr};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderName, StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;
use weir_config::{
    DesiredZone, DnsName, HostedZone, ImportedZone, Problem, Problems, RecordSetSpec, RecordType,
    WrittenType, Zone, ZoneName, decode, write_zone_file,
};

use super::{
    ApiState,
    call::{Answer, Call, parse_name},
    operations::with_operation,
    problem::ApiProblem,
    query::{PageQuery, Params},
    wire::{List, ProblemDetails, RecordSetResource, RecordSource, RecordsChanged},
};
use crate::{
    reconciler::World,
    store::{Holds, Kind, RecordChange, StoreError, Verb},
};

/// So many sets are listed when nothing else is said.
const DEFAULT_PAGE: u32 = 100;
/// The media type of zone files (RFC 4027).
const TEXT_DNS: &str = "text/dns; charset=utf-8";

/// Where a page of record sets begins behind.
#[derive(Clone, Debug)]
struct SetPlace {
    name: DnsName,
    rtype: WrittenType,
}

impl fmt::Display for SetPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.rtype, self.name)
    }
}

impl FromStr for SetPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rtype, name) = text.split_once('/').ok_or("there is no `/` in it")?;
        Ok(Self { name: name.parse()?, rtype: rtype.parse()? })
    }
}

/// The record sets of a zone as they are served, in the canonical order of their names.
#[utoipa::path(get, path = "/v1/zones/{name}/records", params(PageQuery),
    responses((status = 200, body = List<RecordSetResource>),
        (status = 404, body = ProblemDetails)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(query): Params<PageQuery>,
) -> Answer {
    let page = query.page::<SetPlace>(Some(DEFAULT_PAGE))?;
    let world = state.world();
    let seen = Seen::of(&world, &name)?;
    let limit = page.limit.unwrap_or(DEFAULT_PAGE) as usize;
    let sets: Vec<_> = seen.sets(page.after.as_ref()).take(limit).collect();
    let next_cursor = page.next(&sets, |(name, set)| {
        SetPlace { name: (*name).clone(), rtype: set.rtype }.to_string()
    });
    let items = sets.into_iter().map(|(name, set)| set.resource(name)).collect();
    let revision = world.observed.served.revision;
    let listed = List::<RecordSetResource> { items, next_cursor, revision: Some(revision) };
    Ok((etag(revision), Json(listed)).into_response())
}

fn etag(revision: u64) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{revision}\""))]
}

/// Changes several record sets, all of them or none: each is what is written here then, and gone if
/// it has no data. With `If-Match`, only if the zone's records are still what they were when they
/// were listed, or changed last, with that `ETag`.
#[utoipa::path(patch, path = "/v1/zones/{name}/records", request_body = Vec<RecordSetSpec>,
    responses((status = 200, body = RecordsChanged), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails), (status = 422, body = ProblemDetails)))]
pub(crate) async fn patch(call: Call) -> Answer {
    let zone = call.name::<HostedZone>()?;
    let serde_json::Value::Array(written) = call.json()? else {
        let message = "write a list of record sets: [{\"name\": …, \"type\": …, \"data\": […]}]";
        return Err(Problems(vec![Problem::new("", "invalid_value", message)]).into());
    };
    let mut problems = Problems::default();
    let mut changes = BTreeMap::new();
    for (i, value) in written.into_iter().enumerate() {
        let read = decode::<RecordSetSpec>(value).and_then(|spec| spec.read(&zone));
        match read {
            Ok((name, rtype, set)) => {
                let change = RecordChange { name: name.clone(), rtype, set };
                if changes.insert((name, rtype), change).is_some() {
                    let message = "this name and type are in the list already";
                    problems.push(Problem::new(format!("/{i}"), "duplicate", message));
                }
            }
            Err(found) => {
                problems.0.extend(found.0.into_iter().map(|problem| Problem {
                    pointer: format!("/{i}{}", problem.pointer),
                    ..problem
                }))
            }
        }
    }
    let changes: Vec<_> = problems.or_value(changes)?.into_values().collect();
    let (cause, sets) = (call.cause(Verb::Put), changes.len() as u64);
    let holds = Holds::OfZone(call.precondition()?);
    let changed = call.state.store.change_records(&zone, &changes, holds, cause).await?;
    call.state.caught_up(changed.revision).await;
    let done = Json(RecordsChanged { sets, left_out: Vec::new() });
    let done = (etag(changed.revision), done).into_response();
    Ok(with_operation(done, changed.operation.as_ref()))
}

/// Where a set is, in a path.
type SetPath = Path<(String, String, String)>;

fn place(path: &(String, String, String)) -> Result<(ZoneName, DnsName, WrittenType), ApiProblem> {
    let (zone, record, rtype) = path;
    let zone: ZoneName = parse_name(zone)?;
    let not_there = |why: String| ApiProblem::not_found(&why);
    let name = zone.within(record).map_err(not_there)?;
    Ok((zone, name, rtype.parse().map_err(not_there)?))
}

/// The records of one name and type, as they were written, else as they are by themselves.
#[utoipa::path(get, path = "/v1/zones/{name}/records/{record}/{type}",
    responses((status = 200, body = RecordSetResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(State(state): State<ApiState>, Path(path): SetPath) -> Answer {
    let (zone, name, rtype) = place(&path)?;
    answer(&state, &zone, &name, rtype).await
}

async fn answer(state: &ApiState, zone: &ZoneName, name: &DnsName, rtype: WrittenType) -> Answer {
    let world = state.world();
    let shown = |set: SetShown| set.resource(name);
    if let Some(stored) = state.store.record_set(zone, name, rtype).await? {
        let own_ttl = || state.world().desired.zones.get(zone).map(|zone| zone.zone.ttl.records);
        let ttl = stored.set.ttl.or_else(own_ttl).unwrap_or_default();
        let data = stored.set.data().map(|data| rtype.print(data)).collect();
        let set = SetShown { rtype, ttl, data, source: RecordSource::Custom };
        return Ok((etag(stored.revision), Json(shown(set))).into_response());
    }
    let seen = Seen::of(&world, zone)?;
    let auto = seen.sets_from(name).take_while(|(owner, _)| *owner == name);
    match auto.map(|(_, set)| set).find(|set| set.rtype == rtype) {
        Some(set) => Ok(Json(shown(set)).into_response()),
        None => Err(ApiProblem::not_found(&format!("there is no {rtype} record of {name}"))),
    }
}

/// Makes the records of a name and type what is written here; they take the place of those that it
/// has by itself.
#[utoipa::path(put, path = "/v1/zones/{name}/records/{record}/{type}",
    request_body = RecordSetSpec,
    responses((status = 200, body = RecordSetResource), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails), (status = 422, body = ProblemDetails)))]
pub(crate) async fn put(Path(path): SetPath, call: Call) -> Answer {
    let mut spec: RecordSetSpec = decode(call.json()?)?;
    let (zone, name, rtype) = place(&path)?;
    let differs = |written: &str, path: &str| !written.is_empty() && written != path;
    let written = zone.within(&spec.name).ok();
    if !spec.name.is_empty() && written.as_ref() != Some(&name) {
        return Err(mismatch("/name", &spec.name, &name.to_string()));
    }
    if differs(&spec.r#type.to_ascii_uppercase(), &rtype.to_string()) {
        return Err(mismatch("/type", &spec.r#type, &rtype.to_string()));
    }
    (spec.name, spec.r#type) = (name.to_string(), rtype.to_string());
    let (name, rtype, set) = spec.read(&zone)?;
    if set.is_none() {
        let message = "write the data of at least one record; DELETE removes the set";
        return Err(Problems(vec![Problem::new("/data", "required", message)]).into());
    }
    change(&call, &zone, RecordChange { name, rtype, set }, Verb::Put).await
}

fn mismatch(pointer: &str, written: &str, path: &str) -> ApiProblem {
    let message = format!("the path says `{path}`, the set `{written}`");
    Problems(vec![Problem::new(pointer, "mismatch", message)]).into()
}

/// Deletes the records of a name and type; those that it has by itself return.
#[utoipa::path(delete, path = "/v1/zones/{name}/records/{record}/{type}",
    responses((status = 204), (status = 404, body = ProblemDetails),
        (status = 412, body = ProblemDetails), (status = 422, body = ProblemDetails)))]
pub(crate) async fn delete(Path(path): SetPath, call: Call) -> Answer {
    let (zone, name, rtype) = place(&path)?;
    if call.state.store.record_set(&zone, &name, rtype).await?.is_none() {
        let detail = format!("there is no {rtype} record of {name} that was written");
        return Err(ApiProblem::not_found(&detail));
    }
    change(&call, &zone, RecordChange { name, rtype, set: None }, Verb::Delete).await
}

async fn change(call: &Call, zone: &ZoneName, change: RecordChange, verb: Verb) -> Answer {
    let (state, holds) = (&call.state, Holds::OfSets(call.precondition()?));
    let changes = [change];
    let changed = state.store.change_records(zone, &changes, holds, call.cause(verb)).await;
    let changed = changed.map_err(of_one)?;
    state.caught_up(changed.revision).await;
    let [change] = changes;
    let done = match change.set {
        Some(_) => answer(state, zone, &change.name, change.rtype).await?,
        None => StatusCode::NO_CONTENT.into_response(),
    };
    Ok(with_operation(done, changed.operation.as_ref()))
}

/// The problems of the only set of a change.
fn of_one(error: StoreError) -> ApiProblem {
    match error {
        StoreError::Records(problems) => {
            let of_set = |problem: Problem| {
                let own = problem.pointer.strip_prefix("/0").unwrap_or_default().to_owned();
                Problem { pointer: own, ..problem }
            };
            Problems(problems.0.into_iter().map(of_set).collect()).into()
        }
        error => error.into(),
    }
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExportQuery {
    /// Only what was written, without what is there by itself.
    custom: bool,
}

/// The zone as a zone file (RFC 1035).
#[utoipa::path(get, path = "/v1/zones/{name}/export", params(ExportQuery),
    responses((status = 200, body = String, content_type = "text/dns"),
        (status = 404, body = ProblemDetails)))]
pub(crate) async fn export(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Params(query): Params<ExportQuery>,
) -> Answer {
    let world = state.world();
    let text = Seen::of(&world, &name)?.file(query.custom);
    Ok(([(header::CONTENT_TYPE, TEXT_DNS)], text).into_response())
}

/// Makes the records in a zone file all that are written of a zone. SOA and NS of the zone itself
/// are left out: they are made from the zone's spec.
#[utoipa::path(post, path = "/v1/zones/{name}/actions/import",
    request_body(content = String, content_type = "text/dns"),
    responses((status = 200, body = RecordsChanged), (status = 404, body = ProblemDetails),
        (status = 422, body = ProblemDetails)))]
pub(crate) async fn import(call: Call) -> Answer {
    let (name, store) = (call.name::<HostedZone>()?, &call.state.store);
    let zone = store.meant::<HostedZone>(&name).await?;
    let zone = zone.ok_or_else(|| StoreError::not_found(Kind::Zone, &name))?;
    let body = call.body.clone();
    // A million lines keep no other request waiting.
    let read = tokio::task::spawn_blocking(move || read_file(&body, &zone)).await;
    let ImportedZone { sets, left_out, serial } =
        read.map_err(|panic| ApiProblem::internal(&panic))??;
    let changed = store.import_records(&name, &sets, serial, call.cause(Verb::Put)).await?;
    call.state.caught_up(changed.revision).await;
    let done = RecordsChanged { sets: sets.len() as u64, left_out };
    Ok(with_operation(Json(done).into_response(), changed.operation.as_ref()))
}

fn read_file(body: &[u8], zone: &HostedZone) -> Result<ImportedZone, Problems> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let message = format!("the file is not UTF-8 text: {error}");
        Problems(vec![Problem::new("", "bad_text", message)])
    })?;
    ImportedZone::read(text, zone)
}

/// A zone as it is in the world: what is served, and of that what was written.
struct Seen<'a> {
    meant: Option<&'a DesiredZone>,
    served: Option<&'a Zone>,
}

/// The records of one name and type as they are shown.
struct SetShown {
    rtype: WrittenType,
    ttl: u32,
    data: Vec<String>,
    source: RecordSource,
}

impl<'a> Seen<'a> {
    fn of(world: &'a World, name: &str) -> Result<Self, ApiProblem> {
        let name: ZoneName = parse_name(name)?;
        let meant = world.desired.zones.get(&name).map(AsRef::as_ref);
        let served = world.observed.served.zone(name.dns()).map(AsRef::as_ref);
        match (meant, served) {
            (None, None) => Err(StoreError::not_found(Kind::Zone, &name).into()),
            (meant, served) => Ok(Self { meant, served }),
        }
    }

    /// The sets behind a place, or all of them.
    fn sets(
        &self,
        behind: Option<&SetPlace>,
    ) -> impl Iterator<Item = (&'a DnsName, SetShown)> + use<'a> {
        let behind = behind.cloned();
        let first = behind.as_ref().map_or_else(DnsName::root, |place| place.name.clone());
        self.sets_from(&first).skip_while(move |(name, set)| {
            behind.as_ref().is_some_and(|behind| (*name, set.rtype) <= (&behind.name, behind.rtype))
        })
    }

    /// The sets from a name on. One that is an alias comes before the addresses that it leads to.
    fn sets_from(
        &self,
        first: &DnsName,
    ) -> impl Iterator<Item = (&'a DnsName, SetShown)> + use<'a> {
        let Self { meant, served } = *self;
        let written = meant.map(|meant| &meant.custom);
        let shown = served.or(written).map(|zone| zone.iter_from(first));
        let mut sets = shown.into_iter().flatten().peekable();
        let aliases = meant.map(|meant| meant.aliases.range(first.clone()..));
        let mut aliases = aliases.into_iter().flatten().peekable();
        std::iter::from_fn(move || {
            let is_alias = match (aliases.peek(), sets.peek()) {
                (Some((alias, _)), Some((name, _))) => alias <= name,
                (alias, _) => alias.is_some(),
            };
            if is_alias {
                let (name, alias) = aliases.next()?;
                let rtype = WrittenType::Alias;
                let data = vec![rtype.print(alias.target.wire())];
                let source = RecordSource::Custom;
                return Some((name, SetShown { rtype, ttl: alias.ttl, data, source }));
            }
            let (name, set) = sets.next()?;
            let is_written = written.is_some_and(|zone| zone.get(name, set.rtype()).is_some());
            let source = if is_written { RecordSource::Custom } else { RecordSource::Auto };
            let rtype = WrittenType::Of(set.rtype());
            let data = set.data().map(|data| rtype.print(data)).collect();
            Some((name, SetShown { rtype, ttl: set.ttl(), data, source }))
        })
    }

    /// As a zone file, which begins with the SOA. What is written has ALIAS records, and what is
    /// served has the addresses that they lead to.
    fn file(&self, is_custom: bool) -> String {
        let custom = self.meant.map(|meant| &meant.custom);
        let own = self.served.or(custom).map(Zone::name);
        let own = own.cloned().unwrap_or_else(DnsName::root);
        let served = self.served.filter(|_| !is_custom);
        let zone = served.or(custom);
        let soa = served.and_then(Zone::soa).map(|soa| (&own, soa));
        let sets = zone.into_iter().flat_map(Zone::iter);
        let sets = soa.into_iter().chain(sets.filter(|(_, s)| s.rtype() != RecordType::SOA));
        let records = sets.flat_map(|(name, set)| {
            let rtype = WrittenType::Of(set.rtype());
            set.data().map(move |data| (name, Some(set.ttl()), rtype, data))
        });
        let aliases = self.meant.filter(|_| served.is_none()).into_iter().flat_map(|m| &m.aliases);
        let aliases = aliases
            .map(|(name, alias)| (name, Some(alias.ttl), WrittenType::Alias, alias.target.wire()));
        let ttl = self.meant.map_or(0, |meant| meant.zone.ttl.records);
        write_zone_file(&own, ttl, records.chain(aliases))
    }
}

impl SetShown {
    fn resource(self, name: &DnsName) -> RecordSetResource {
        let Self { rtype, ttl, data, source } = self;
        RecordSetResource { name: name.to_string(), r#type: rtype.to_string(), ttl, data, source }
    }
}
