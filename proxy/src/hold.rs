//! Finding a request's endpoint, and waiting for one while the app wakes.

use std::{
    cell::Cell,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use pingora::proxy::Session;
use tokio::time::{interval, sleep_until};
use weir_config::{Admission, AppRoute, Decision, Held, Moment, RouteState};

use crate::{
    asked::Asked,
    connection::{self, Connection},
    context::Context,
    forwarded::client_ip,
    gateway::Gateway,
    host::host_of,
    limits,
    pages::Refusal,
    pick::{is_full, pick},
};

/// While an app is waited for, control is told so again this often: a hint may get lost.
const HINT_EVERY: Duration = Duration::from_secs(1);

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

enum Step {
    Forward,
    Hold,
}

impl Gateway {
    /// Pins the served snapshot, and returns once the request has an endpoint in it.
    pub(crate) async fn admit(&self, session: &mut Session, ctx: &mut Context) -> Result<(), Stop> {
        let host = host_of(session.req_header()).ok_or(Refusal::BadHost)?;
        if self.is_misdirected(session, &host) {
            return Err(Refusal::Misdirected.into());
        }
        ctx.client_auth = connection::of(session).and_then(Connection::client_auth).cloned();
        let client = client_ip(session);
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

    fn decide(&self, asked: &Asked<'_>, ctx: &mut Context, now: Moment) -> Result<Step, Refusal> {
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
            RouteState::Serving(_) if pinned.full => Err(limits::overloaded(route)),
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
                self.snapshots.admit(asked.host, asked.path(), |route, pool| {
                    let picked = pick(route, pool, asked, failed, now);
                    full.set(picked.is_none() && is_full(route, pool));
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
            if !std::mem::replace(&mut checked, true) {
                welcome = welcome.and_then(|()| limits::check(&route, asked, ctx.timeline.arrived));
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

    /// Waits, and notes how long the wake took: from the request's arrival to its release, which
    /// is what the wake added to the answer's time.
    async fn hold(
        &self,
        asked: &Asked<'_>,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<(), Stop> {
        let begun = Instant::now();
        let outcome = self.wait(asked, session, ctx).await;
        ctx.held += begun.elapsed();
        // Waiting is not connecting, nor is it the instance's time.
        ctx.attempts.since = None;
        ctx.deadline = None;
        if let (Ok(()), Some(level), Some(route)) = (&outcome, ctx.wake, &ctx.route)
            && ctx.attempts.tries == 0
        {
            route.activity.woken(level, ctx.timeline.arrived.elapsed());
        }
        outcome
    }

    async fn wait(
        &self,
        asked: &Asked<'_>,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<(), Stop> {
        let mut route = ctx.route.clone().ok_or(Refusal::Internal)?;
        let mut held = place(&route)?;
        let deadline =
            *ctx.hold_deadline.get_or_insert_with(|| Instant::now() + route.wake_timeout);
        let mut hints = interval(HINT_EVERY);
        let mut stopping = self.stopping.clone();
        let mut stopping = pin!(async {
            let _ = stopping.wait_for(|stopping| *stopping).await;
            // After an upgrade somebody goes on to publish here, so that the wake still comes.
            self.snapshots.abandoned().await;
        });
        let mut gone = pin!(client_gone(session));
        loop {
            tokio::select! {
                biased;
                // At once, and then again and again.
                _ = hints.tick() => self.observer.wake_wanted(&route.app),
                _ = self.snapshots.newer_than(ctx.generation) => {
                    match self.decide(asked, ctx, Moment::now())? {
                        Step::Forward => break,
                        Step::Hold => {}
                    }
                    // The name may have moved to another app meanwhile.
                    if let Some(now) = &ctx.route && now.app != route.app {
                        route = now.clone();
                        held = place(&route)?;
                        hints.reset_immediately();
                    }
                }
                () = &mut gone => return Err(Stop::ClientGone),
                () = &mut stopping => return Err(Refusal::Stopping.into()),
                () = sleep_until(deadline.into()) => return Err(Refusal::StillWaking.into()),
            }
        }
        drop(held);
        Ok(())
    }
}

/// A place in the app's queue.
fn place(route: &Arc<AppRoute>) -> Result<Held, Refusal> {
    route.activity.hold(route.queue).ok_or(Refusal::QueueFull)
}

/// Returns when the client has closed its connection, or this stream of it.
///
/// Of an HTTP/1.1 request with a body this cannot be told without reading the body, which is the
/// instance's to read: such a request keeps its place until it is released or its time is over.
async fn client_gone(session: &mut Session) {
    let client = session.as_downstream_mut();
    if let Some(closed) = client.watch_h2_stream_close() {
        // Closed or broken, it is gone.
        let _ = closed.await;
        return;
    }
    if client.is_body_empty() && client.read_body_or_idle(true).await.is_err() {
        return;
    }
    std::future::pending().await
}
