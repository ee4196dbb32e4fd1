//! Waiting for an endpoint while the app wakes.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use pingora::proxy::Session;
use tokio::time::{interval, sleep_until};
use weir_config::{AppRoute, Held, Moment};

use crate::{
    admit::{Step, Stop},
    asked::Asked,
    context::Context,
    gateway::Gateway,
    pages::Refusal,
};

/// While an app is waited for, control is told so again this often: a hint may get lost.
const HINT_EVERY: Duration = Duration::from_secs(1);

impl Gateway {
    /// Waits, and notes how long the wake took: from the request's arrival to its release, which
    /// is what the wake added to the answer's time.
    pub(crate) async fn hold(
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
