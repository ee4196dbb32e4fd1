//! `/v1/domains`: host names of apps outside the base domain, and which records they need.

use axum::{
    Json,
    extract::{Path, State},
};
use weir_config::Hostname;

use super::{
    ApiState,
    call::{Call, parse_name},
    problem::ApiProblem,
    query::{PageQuery, Params},
    wire::{DomainResource, List, ProblemDetails},
};
use crate::{
    domains::{Domain, judge},
    time::rfc3339,
};

const DEFAULT_LIMIT: u32 = 100;

/// Domains, by name.
#[utoipa::path(get, path = "/v1/domains", params(PageQuery),
    responses((status = 200, body = List<DomainResource>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Params(query): Params<PageQuery>,
) -> Result<Json<List<DomainResource>>, ApiProblem> {
    let page = query.page::<Hostname>(Some(DEFAULT_LIMIT))?;
    let domains = state.domains.borrow().clone();
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT) as usize;
    let is_after = |host: &Hostname| page.after.as_ref().is_none_or(|after| host > after);
    let items: Vec<_> = domains.iter().filter(|(host, _)| is_after(host)).take(limit).collect();
    let next_cursor = page.next(&items, |(host, _)| host.to_string());
    let items = items.into_iter().map(|(host, domain)| shown(&state, host, domain)).collect();
    Ok(Json(List { items, next_cursor, revision: None }))
}

/// One domain.
#[utoipa::path(get, path = "/v1/domains/{name}",
    responses((status = 200, body = DomainResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn read(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<DomainResource>, ApiProblem> {
    let host: Hostname = parse_name(&name)?;
    let domains = state.domains.borrow().clone();
    let domain = domains.get(&host).ok_or_else(|| no_domain(&host))?;
    Ok(Json(shown(&state, &host, domain)))
}

/// Asks the DNS now, and answers by what is seen.
#[utoipa::path(post, path = "/v1/domains/{name}/actions/check",
    responses((status = 200, body = DomainResource), (status = 404, body = ProblemDetails)))]
pub(crate) async fn check(
    Path(name): Path<String>,
    call: Call,
) -> Result<Json<DomainResource>, ApiProblem> {
    let (host, state): (Hostname, _) = (parse_name(&name)?, &call.state);
    let checked_at = |domain: &Domain| domain.looked.as_ref().map(|looked| looked.at);
    let former = state.domains.borrow().get(&host).map(|domain| checked_at(domain));
    let former = former.ok_or_else(|| no_domain(&host))?;
    let gone = |_| ApiProblem::unavailable("the process is about to end");
    state.domain_checks.send(host.clone()).await.map_err(gone)?;
    let mut domains = state.domains.clone();
    let looked = domains
        .wait_for(|domains| domains.get(&host).is_none_or(|domain| checked_at(domain) != former));
    // Who asks the DNS may wait long for it; what was seen before is told then.
    let _ = tokio::time::timeout(super::wait::CATCH_UP * 4, looked).await;
    let domains = state.domains.borrow().clone();
    let domain = domains.get(&host).ok_or_else(|| no_domain(&host))?;
    Ok(Json(shown(state, &host, domain)))
}

fn no_domain(host: &Hostname) -> ApiProblem {
    ApiProblem::not_found(&format!(
        "no app has the host name `{host}`, or it is below the base domain and needs nothing"
    ))
}

fn shown(state: &ApiState, host: &Hostname, domain: &Domain) -> DomainResource {
    let certificate = super::certificates::state_of(&state.world(), host);
    let judged = domain.looked.as_ref().map(|looked| judge(host, &domain.target, looked));
    let mut resource = DomainResource {
        kind: "Domain".to_owned(),
        name: host.to_string(),
        app: domain.app.to_string(),
        state: "unknown".to_owned(),
        message: "the DNS was not asked yet".to_owned(),
        needed: Vec::new(),
        seen: Vec::new(),
        certificate,
        checked_at: domain.looked.as_ref().map(|looked| rfc3339(looked.at)),
    };
    if let Some(judged) = judged {
        resource.state = judged.state.as_str().to_owned();
        (resource.message, resource.needed) = (judged.message, judged.needed);
        resource.seen = judged.seen;
    }
    resource
}
