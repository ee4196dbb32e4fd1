//! `/v1/certificates`: those that are shown to clients, and those that are wanted.

use std::ops::Bound;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use tokio::sync::oneshot;
use weir_config::{Hostname, Problem, Problems, decode};
use zeroize::Zeroizing;

use super::{
    ApiState,
    call::{Call, parse_name},
    problem::ApiProblem,
    query::{PageQuery, Params},
    wire::{CertificateResource, CertificateUpload, List, ProblemDetails},
};
use crate::{
    certificates::{BadCertificate, CertificateError, Command, Kept, Source},
    reconciler::World,
    time::{rfc3339, unix_millis},
};

const DEFAULT_LIMIT: u32 = 100;

/// Certificates, by name.
#[utoipa::path(get, path = "/v1/certificates", params(PageQuery),
    responses((status = 200, body = List<CertificateResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Result<Json<List<CertificateResource>>, ApiProblem> {
    let page = query.page::<Hostname>(Some(DEFAULT_LIMIT))?;
    let world = state.world();
    let after = page.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
    let kept = world.observed.certificates.kept.range((after, Bound::Unbounded));
    let items: Vec<_> = kept.take(page.limit.unwrap_or(DEFAULT_LIMIT) as usize).collect();
    let next_cursor = page.next(&items, |(name, _)| name.to_string());
    let items = items.into_iter().map(|(name, kept)| shown(name, kept)).collect();
    Ok(Json(List { items, next_cursor, revision: None }))
}

/// One certificate; with `?wait=`, once it is there or a try to get it was in vain.
#[utoipa::path(get, path = "/v1/certificates/{name}", params(super::wait::WaitQuery),
    responses((status = 200, body = CertificateResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    Path(name): Path<String>,
    call: Call,
) -> Result<Json<CertificateResource>, ApiProblem> {
    let name: Hostname = parse_name(&name)?;
    if let Some(limit) = call.wait.limit()? {
        let is_settled =
            |kept: &Kept| !kept.is_being_ordered && is_there(kept) || kept.failures.count > 0;
        call.state.wait_until(limit, |world| find(world, &name).is_some_and(is_settled)).await;
    }
    let world = call.state.world();
    let kept = find(&world, &name).ok_or_else(|| CertificateError::NotFound(name.clone()))?;
    Ok(Json(shown(&name, kept)))
}

/// Takes a certificate of one's own, which is shown from then on for all of its names instead of
/// any other. It takes the place of the one of the same name.
#[utoipa::path(post, path = "/v1/certificates", request_body = CertificateUpload,
    responses((status = 201, body = CertificateResource), (status = 422, body = ProblemDetails)))]
pub(crate) async fn upload(
    call: Call,
) -> Result<(StatusCode, Json<CertificateResource>), ApiProblem> {
    let CertificateUpload { chain, key } = decode(call.json()?)?;
    let (actor, key_pem) = (call.token.id.clone(), Zeroizing::new(key));
    let ask = |reply| Command::Upload { actor, chain_pem: chain, key_pem, reply };
    let name = asked(&call.state, ask).await?;
    let is_shown = |kept: &Kept| kept.source == Source::Upload && kept.certificate.is_some();
    let (state, limit) = (&call.state, super::wait::CATCH_UP);
    state.wait_until(limit, |world| find(world, &name).is_some_and(is_shown)).await;
    let world = state.world();
    let kept = find(&world, &name).ok_or_else(|| CertificateError::NotFound(name.clone()))?;
    Ok((StatusCode::CREATED, Json(shown(&name, kept))))
}

/// Orders a new one now; the former one is shown until it is there.
#[utoipa::path(post, path = "/v1/certificates/{name}/actions/renew",
    responses((status = 202), (status = 404, body = ProblemDetails),
        (status = 409, body = ProblemDetails)))]
pub(crate) async fn renew(Path(name): Path<String>, call: Call) -> Result<StatusCode, ApiProblem> {
    let name: Hostname = parse_name(&name)?;
    let actor = call.token.id;
    asked(&call.state, |reply| Command::Renew { actor, name, reply }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Deletes a certificate. One that an app needs is ordered anew.
#[utoipa::path(delete, path = "/v1/certificates/{name}",
    responses((status = 204), (status = 404, body = ProblemDetails)))]
pub(crate) async fn delete(Path(name): Path<String>, call: Call) -> Result<StatusCode, ApiProblem> {
    let name: Hostname = parse_name(&name)?;
    let actor = call.token.id;
    asked(&call.state, |reply| Command::Delete { actor, name, reply }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks the keeper, and gives its answer.
async fn asked<T>(
    state: &ApiState,
    ask: impl FnOnce(oneshot::Sender<Result<T, CertificateError>>) -> Command,
) -> Result<T, ApiProblem> {
    let gone = || ApiProblem::unavailable("the process is about to end");
    let (reply, answer) = oneshot::channel();
    state.keeper.send(ask(reply)).await.map_err(|_| gone())?;
    Ok(answer.await.map_err(|_| gone())??)
}

fn find<'a>(world: &'a World, name: &Hostname) -> Option<&'a Kept> {
    world.observed.certificates.kept.get(name).map(|kept| &**kept)
}

fn is_there(kept: &Kept) -> bool {
    kept.has_ended(unix_millis() / 1000) == Some(false)
}

/// The state of the one that is kept for a name, in a word.
pub(super) fn state_of(world: &World, name: &Hostname) -> String {
    let shown = world.observed.certificates.served.find(name).and_then(|c| c.names.first());
    let kept = shown.and_then(|first| find(world, first)).or_else(|| find(world, name));
    kept.map_or("none", state).to_owned()
}

fn state(kept: &Kept) -> &'static str {
    kept.state(unix_millis() / 1000)
}

fn shown(name: &Hostname, kept: &Kept) -> CertificateResource {
    let seconds = |seconds: i64| rfc3339(seconds.saturating_mul(1000));
    let valid = kept.certificate.as_ref().map(|certificate| certificate.valid);
    let has_failed = kept.failures.count > 0;
    CertificateResource {
        kind: "Certificate".to_owned(),
        name: name.to_string(),
        names: kept.names.iter().map(ToString::to_string).collect(),
        source: kept.source.as_str().to_owned(),
        state: state(kept).to_owned(),
        issuer: kept.issuer.as_ref().map(ToString::to_string),
        proof: kept.wanted.map(|usual| kept.ordered_by.unwrap_or(usual).as_str().to_owned()),
        not_before: valid.map(|(begins, _)| seconds(begins)),
        not_after: valid.map(|(_, ends)| seconds(ends)),
        renew_at: kept.renew_at.filter(|_| kept.wanted.is_some()).map(seconds),
        failures: kept.failures.count,
        last_error: has_failed.then(|| kept.failures.message.clone()),
        retry_at: has_failed.then(|| seconds(kept.failures.next_at)),
    }
}

impl From<CertificateError> for ApiProblem {
    fn from(error: CertificateError) -> Self {
        let detail = error.to_string();
        match error {
            CertificateError::NotFound(_) => Self::not_found(&detail),
            CertificateError::NotOrdered(_) => Self::conflict("not_ordered", detail),
            CertificateError::NoIssuer => Self::conflict("no_issuer", detail),
            CertificateError::Local(_) => Self::conflict("local", detail),
            CertificateError::Bad(bad) => {
                let pointer = if matches!(bad, BadCertificate::Key(_)) { "/key" } else { "/chain" };
                Problems(vec![Problem::new(pointer, "bad_certificate", detail)]).into()
            }
            CertificateError::Store(error) => error.into(),
        }
    }
}
