//! Finding a request's endpoint in what is served.

use std::{borrow::Cow, cell::Cell, sync::Arc};

use pingora::proxy::Session;
use weir_config::{Admission, AppName, AppRoute, Backends, Decision, Moment, RouteState};

use crate::{
    asked::Asked,
    connection::{self, Connection},
    context::Context,
    gateway::Gateway,
    host::host_of,
    pages::Refusal,
    pick::{is_full, pick},
    request_limits, targets,
};

/// Why a request is not forwarded.
#[derive(Debug)]
pub(crate) enum Stop {
    Refused(Refusal),
    ClientGone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

struct Pinned {
    route: Arc<AppRoute>,
    /// Whether it has no endpoint because each carries as many requests as it may.
    full: bool,
}

/// What is to be done with a request.
pub(crate) enum Step {
    Forward,
    Hold,
}

impl Gateway {
    /// Pins the served snapshot, and returns once the request has an endpoint in it.
    pub(crate) async fn admit(&self, session: &mut Session, ctx: &mut Context) -> Result<(), Stop> {
        let host = host_of(session.req_header()).ok_or(Refusal::BadHost)?;
        let host = match ctx.caller {
            Some(_) => Cow::Owned(self.public_name(&host)?),
            None => host,
        };
        if self.is_misdirected(session, &host) {
            return Err(Refusal::Misdirected.into());
        }
        ctx.client_auth = connection::of(session).and_then(Connection::client_auth).cloned();
        let client = ctx.client.ip;
        let asked = Asked { host: &host, header: session.req_header(), client };
        let now = match ctx.route {
            None => Moment::at(ctx.timeline.arrived),
            Some(_) => Moment::now(),
        };
        match self.decide(&asked, ctx, now)? {
            Step::Forward => Ok(()),
            Step::Hold => {
                let (host, header) = (host.into_owned(), session.req_header().clone());
                let asked = Asked { host: &host, header: &header, client };
                self.hold(&asked, session, ctx).await
            }
        }
    }

    /// The host name by which what an app asks for by a private one is served.
    fn public_name(&self, host: &str) -> Result<String, Refusal> {
        let snapshot = self.snapshots.current();
        let app = AppName::of_private_hostname(host);
        let route = app.and_then(|app| snapshot.app(&app));
        let public = route.and_then(|route| route.hostnames.first());
        let public = public.ok_or_else(|| Refusal::UnknownHost(host.into()))?;
        Ok(public.host.to_string())
    }

    /// What becomes of a request by what is served at this moment.
    pub(crate) fn decide(
        &self,
        asked: &Asked<'_>,
        ctx: &mut Context,
        now: Moment,
    ) -> Result<Step, Refusal> {
        let first = ctx.route.is_none();
        let pinned = self.pin(asked, ctx, now)?;
        let route = ctx.route.insert(pinned.route);
        if first {
            route.activity.touch(now);
            if route.policy.retries.attempts > 0 {
                route.activity.fund_retries(now);
            }
            self.early_wake.request(&route.activity);
        }
        match &route.state {
            RouteState::Serving(_) if ctx.endpoint.is_some() => Ok(Step::Forward),
            RouteState::Serving(_) if pinned.full => Err(request_limits::overloaded(route)),
            RouteState::Serving(_) => Err(Refusal::no_endpoint()),
            RouteState::Asleep(level) => {
                ctx.wake.get_or_insert(*level);
                Ok(Step::Hold)
            }
            RouteState::Starting => Ok(Step::Hold),
            RouteState::Unavailable { reason, retry_after } => {
                Err(Refusal::Unavailable { reason: reason.clone(), retry_after: *retry_after })
            }
        }
    }

    /// Pins the served snapshot, and puts what it says of the request into its context.
    fn pin(&self, asked: &Asked<'_>, ctx: &mut Context, now: Moment) -> Result<Pinned, Refusal> {
        let mut checked = ctx.route.is_some();
        loop {
            let full = Cell::new(false);
            let failed = &ctx.attempts.failed;
            let Admission { generation, decision } =
                self.snapshots.admit(asked.host, asked.path(), |snapshot, route| {
                    let picked = pick(snapshot, route, asked, failed, now);
                    full.set(picked.is_none() && is_full(snapshot, route, asked));
                    picked
                });
            ctx.generation = generation;
            let (route, endpoint, lease, endpoint_lease) = match decision {
                Decision::UnknownHost => {
                    (ctx.route, ctx.endpoint, ctx.leases) = (None, None, None);
                    return Err(Refusal::UnknownHost(asked.host.into()));
                }
                Decision::Forward { route, endpoint, lease, endpoint_lease } => {
                    (route, Some(endpoint), lease, Some(endpoint_lease))
                }
                Decision::Hold { route, lease } | Decision::Refuse { route, lease } => {
                    (route, None, lease, None)
                }
            };
            // A connection that was made for another host, or before the app wanted this.
            let wanted = &route.policy.client_auth;
            let mut welcome = match wanted.is_some() && *wanted != ctx.client_auth {
                true => Err(Refusal::Misdirected),
                false => Ok(()),
            };
            // Of the route that it has come to: a path may be another app's.
            if ctx.caller.as_ref().is_some_and(|app| !route.policy.allow.contains(app)) {
                welcome = Err(Refusal::NotAllowed);
            }
            if !std::mem::replace(&mut checked, true) {
                welcome = welcome
                    .and_then(|()| self.stays(&route, asked, ctx.client.https))
                    .and_then(|()| self.refuse_loop(&route, asked))
                    .and_then(|()| request_limits::check(&route, asked, ctx.timeline.arrived));
            }
            if let Err(refusal) = welcome {
                lease.turn_away();
                ctx.route = Some(route);
                return Err(refusal);
            }
            if let Some(endpoint) = &endpoint {
                let Some(standing) = endpoint.stand(&route.policy.outlier, now) else {
                    continue;
                };
                ctx.attempts.standing = standing;
            }
            // The former leases end after the new ones have begun: in between, nobody sees the app
            // idle.
            (ctx.endpoint, ctx.leases) = (endpoint, Some((lease, endpoint_lease)));
            return Ok(Pinned { route, full: full.get() });
        }
    }

    /// Whether the request is for a name that the app serves, and not for one that leads to another.
    fn stays(&self, route: &AppRoute, asked: &Asked<'_>, https: bool) -> Result<(), Refusal> {
        match route.policy.redirects.get(asked.host) {
            None => Ok(()),
            Some(to) => {
                let port = if https { Some(self.https_port_public) } else { asked.port() };
                Err(Refusal::Moved { location: asked.at(to, https, port).into() })
            }
        }
    }

    /// A request that has been sent to a target before, by us, would be sent there for ever. One
    /// that comes from there to an app of another sort has come to its origin.
    fn refuse_loop(&self, route: &AppRoute, asked: &Asked<'_>) -> Result<(), Refusal> {
        let is_passed_on = matches!(route.state, RouteState::Serving(Backends::Failover(_)));
        match is_passed_on && targets::has_passed(&asked.header.headers, &self.cdn_id) {
            true => Err(Refusal::Loop),
            false => Ok(()),
        }
    }
}
