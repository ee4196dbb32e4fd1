//! What a failed attempt says about the endpoint, and whether the request gets another one.

use std::{sync::Arc, time::Duration};

use pingora::{Error, ErrorSource, ErrorType, RetryType, proxy::Session};
use weir_config::{
    AppRoute, Backends, Endpoint, EndpointId, Incident, Moment, Pool, Retries, RouteState,
};

use crate::{
    context::Context,
    gateway::{Gateway, is_connect},
    pages::Refusal,
    targets,
    timeouts::is_timeout,
};

/// How often one request may try to connect, and the pause before the first of the repetitions,
/// which doubles each time. A loop reaction later the snapshot no longer has a dead endpoint.
const MAX_CONNECTS: u32 = 5;
const FIRST_BACK_OFF: Duration = Duration::from_millis(2);

/// How often Pingora may begin anew with one request, of whatever cause: what the rules here come to
/// at most, with the one connection that was kept and found closed.
pub(crate) const MAX_TRIES: usize = MAX_CONNECTS as usize + Retries::MAX_ATTEMPTS as usize + 1;

impl Gateway {
    /// Whether a request whose endpoint could not be reached tries another one. Nothing has been
    /// sent, so that any request may, a POST too.
    pub(crate) fn connects_again(&self, error: &Error, ctx: &mut Context) -> bool {
        let (Some(route), Some(endpoint)) = (&ctx.route, &ctx.endpoint) else { return false };
        if ctx.is_late(Duration::ZERO) {
            // It was not given the time that it may take.
            ctx.refusal = Some(Refusal::UpstreamTimeout);
            return false;
        }
        if is_connect(error.etype()) {
            self.observer.connect_failed(&endpoint.id);
        }
        if is_connect(error.etype()) || is_handshake(error.etype()) {
            endpoint.activity.unanswered(since_forwarded(ctx));
            count_failure(route, endpoint, ctx);
        }
        let attempts = &mut ctx.attempts;
        attempts.failed.push(endpoint.id.clone());
        attempts.pause = FIRST_BACK_OFF * 2u32.pow(attempts.unreachable);
        attempts.unreachable += 1;
        // Twice the time for one attempt: an endpoint that swallows connections costs one attempt,
        // and all endpoints swallowing them does not make the client wait for five.
        let spent = attempts.since.map_or(Duration::ZERO, |since| since.elapsed());
        attempts.unreachable < MAX_CONNECTS && spent < route.policy.timeouts.connect * 2
    }

    /// Judges an attempt that failed after a connection was there, and decides whether the request
    /// is sent again.
    pub(crate) fn sends_again(
        &self,
        error: &Error,
        session: &mut Session,
        ctx: &mut Context,
        reused: bool,
    ) -> bool {
        if std::mem::take(&mut ctx.attempts.answer_failed) {
            return true;
        }
        if *error.esource() != ErrorSource::Upstream || session.response_written().is_some() {
            return false;
        }
        let timeout = is_timeout(error, ctx);
        if timeout && !session.is_body_done() {
            // The instance waits, too: for the client, which may read what it is told.
            ctx.refusal = Some(Refusal::RequestTimeout);
            return false;
        }
        // A connection that was kept and closes under the request most likely closed before it.
        let was_closed = match error.retry {
            RetryType::ReusedOnly => reused,
            RetryType::Decided(again) => again,
        };
        if was_closed && !ctx.attempts.met_closed && is_repeatable(session) {
            ctx.attempts.met_closed = true;
            return true;
        }
        let mut goes_elsewhere = false;
        if let (Some(route), Some(endpoint)) = (&ctx.route, &ctx.endpoint) {
            endpoint.activity.unanswered(since_forwarded(ctx));
            self.note_failure(route, endpoint, ctx);
            goes_elsewhere = self.goes_elsewhere(route, endpoint, &ctx.attempts.failed);
        }
        // An instance that is slow would only get more to do.
        let again = (!timeout || goes_elsewhere) && may_retry(session, ctx);
        if timeout && !again {
            ctx.refusal = Some(Refusal::UpstreamTimeout);
        }
        again
    }

    /// Whether a request would not meet this endpoint again: because it has been taken from what
    /// serves the app, as when its machine is lost, or because it is one of several targets'.
    fn goes_elsewhere(&self, route: &AppRoute, endpoint: &Endpoint, failed: &[EndpointId]) -> bool {
        let snapshot = self.snapshots.current();
        let has_it = |pool: &Arc<Pool>| pool.endpoints().iter().any(|one| one.id == endpoint.id);
        match snapshot.app(&route.app).map(|route| &route.state) {
            Some(RouteState::Serving(Backends::Own(pool))) => !has_it(pool),
            Some(RouteState::Serving(Backends::Shards(shards))) => {
                !shards.iter().filter_map(|shard| snapshot.shard(shard)).any(has_it)
            }
            Some(RouteState::Serving(Backends::Failover(policy))) => snapshot
                .policy(policy)
                .is_some_and(|steered| targets::has_another(steered, &endpoint.id, failed)),
            _ => false,
        }
    }

    /// Judges an answer by its status. Returns whether the client gets it; otherwise the request is
    /// sent again.
    pub(crate) fn takes_answer(&self, status: u16, session: &Session, ctx: &mut Context) -> bool {
        let (Some(route), Some(endpoint)) = (&ctx.route, &ctx.endpoint) else { return true };
        if status < 500 {
            endpoint.activity.answered(false, since_forwarded(ctx));
            endpoint.succeeded(ctx.attempts.standing);
            return true;
        }
        endpoint.activity.answered(true, since_forwarded(ctx));
        self.note_failure(route, endpoint, ctx);
        let is_failure = route.policy.retries.on_status.contains(&status);
        ctx.attempts.answer_failed = is_failure && may_retry(session, ctx);
        !ctx.attempts.answer_failed
    }

    /// Notes an endpoint's failure; if that ejects it, control looks at it at once.
    fn note_failure(&self, route: &AppRoute, endpoint: &Endpoint, ctx: &Context) {
        if count_failure(route, endpoint, ctx) {
            self.observer.connect_failed(&endpoint.id);
        }
    }
}

/// The endpoint can be connected to, but not spoken to.
fn is_handshake(error: &ErrorType) -> bool {
    use ErrorType::{HandshakeError, InvalidCert, TLSHandshakeFailure, TLSHandshakeTimedout};
    matches!(error, HandshakeError | InvalidCert | TLSHandshakeFailure | TLSHandshakeTimedout)
}

/// Returns whether the endpoint is ejected by it.
fn count_failure(route: &AppRoute, endpoint: &Endpoint, ctx: &Context) -> bool {
    let policy = &route.policy.outlier;
    let ejected = endpoint.failed(ctx.attempts.standing, policy, Moment::now());
    if ejected {
        route.activity.count(Incident::Ejection);
    }
    ejected
}

/// How long ago it was that the request had an endpoint to go to.
fn since_forwarded(ctx: &Context) -> Duration {
    ctx.timeline.admitted.map(|admitted| admitted.elapsed()).unwrap_or_default()
}

/// Takes one of the request's attempts and one of the app's retries, if there are any.
fn may_retry(session: &Session, ctx: &mut Context) -> bool {
    let (Some(route), Some(endpoint)) = (&ctx.route, &ctx.endpoint) else { return false };
    let policy = &route.policy.retries;
    if ctx.attempts.retries >= policy.attempts || !is_repeatable(session) {
        return false;
    }
    let pause = back_off(policy.back_off, ctx.attempts.retries);
    if ctx.is_late(pause) {
        return false;
    }
    if !route.activity.take_retry(policy, Moment::now()) {
        route.activity.count(Incident::RetryDenied);
        return false;
    }
    route.activity.count(Incident::Retry);
    let attempts = &mut ctx.attempts;
    attempts.failed.push(endpoint.id.clone());
    attempts.pause = pause;
    attempts.retries += 1;
    true
}

/// Whether sending it twice is as good as once, and all of it is still there to be sent.
fn is_repeatable(session: &Session) -> bool {
    session.req_header().method.is_idempotent()
        && !session.as_downstream().retry_buffer_truncated()
        && session.response_written().is_none()
}

/// Doubles with each retry; up to half of it is left to chance, so that requests which failed
/// together do not come again together.
fn back_off(first: Duration, retries: u8) -> Duration {
    let whole = first * (1 << retries.min(8));
    whole.mul_f64(1.0 - rand::random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_and_up_to_half_of_it_is_chance() {
        let first = Duration::from_millis(100);
        for (retries, whole) in [(0, 100), (1, 200), (4, 1600)] {
            let whole = Duration::from_millis(whole);
            let pauses: Vec<_> = (0..200).map(|_| back_off(first, retries)).collect();
            assert!(pauses.iter().all(|pause| (whole / 2..=whole).contains(pause)));
            assert!(pauses.iter().any(|pause| *pause < whole.mul_f64(0.7)));
            assert!(pauses.iter().any(|pause| *pause > whole.mul_f64(0.8)));
        }
        assert_eq!(back_off(Duration::ZERO, 3), Duration::ZERO);
    }
}
