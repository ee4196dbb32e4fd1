//! Where the time of a request went, told of those that took long. `docs/observability.md` says
//! what the marks mean.

use std::time::{Duration, Instant};

use pingora::{Error, proxy::Session};
use weir_config::SleepLevel;

use crate::{connection, context::Context};

/// When what happened to a request; of attempts, the last one's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    /// Its header was read.
    pub(crate) arrived: Instant,
    /// It had an instance to go to.
    pub(crate) admitted: Option<Instant>,
    pub(crate) connect_begun: Option<Instant>,
    pub(crate) connected: Option<Instant>,
    /// Whether the connection had carried others before.
    pub(crate) reused: bool,
    /// The last byte of it went to the instance.
    pub(crate) sent: Option<Instant>,
    /// The header of the answer came.
    pub(crate) answered: Option<Instant>,
}

impl Timeline {
    pub(crate) fn begin() -> Self {
        Self {
            arrived: Instant::now(),
            admitted: None,
            connect_begun: None,
            connected: None,
            reused: false,
            sent: None,
            answered: None,
        }
    }

    pub(crate) fn after_arrival(&self, mark: Option<Instant>) -> Option<Duration> {
        Some(mark?.duration_since(self.arrived))
    }

    /// For browsers' developer tools: <https://www.w3.org/TR/server-timing/>.
    pub(crate) fn server_timing(&self, held: Duration) -> String {
        let between = |from: Option<Instant>, to: Option<Instant>| {
            let span = from.zip(to).map(|(from, to)| to.duration_since(from));
            millis(span.unwrap_or_default())
        };
        format!(
            "held;dur={}, connect;dur={}, app;dur={}, total;dur={}",
            millis(held),
            between(self.connect_begun, self.connected),
            between(self.connected, self.answered),
            between(Some(self.arrived), self.answered),
        )
    }
}

/// Tells of a request that waited for its app, was tried more than once, or waited for the first
/// byte of its answer for longer than `slow`. How long the rest took is up to the app and the
/// client: a stream lasts as long as they want.
pub(crate) fn record(session: &Session, error: Option<&Error>, ctx: &Context, slow: Duration) {
    let marks = &ctx.timeline;
    let waited = marks.answered.unwrap_or_else(Instant::now).duration_since(marks.arrived);
    if ctx.held.is_zero() && ctx.attempts.tries < 2 && waited < slow {
        return;
    }
    let at = |mark| marks.after_arrival(mark).map(millis);
    tracing::info!(
        target: "timeline",
        request_id = %ctx.request_id,
        app = ctx.route.as_deref().map(|route| &*route.app),
        generation = ctx.generation,
        wake = ctx.wake.map_or("none", SleepLevel::as_str),
        client_family = ctx.client.ip.map(|ip| if ip.is_ipv4() { "ipv4" } else { "ipv6" }),
        connection_age_ms = connection_age(session, marks.arrived).map(millis),
        held_ms = millis(ctx.held),
        admitted_ms = at(marks.admitted),
        connect_begun_ms = at(marks.connect_begun),
        connected_ms = at(marks.connected),
        reused = marks.connected.map(|_| marks.reused),
        attempts = ctx.attempts.tries,
        sent_ms = at(marks.sent),
        first_byte_ms = at(marks.answered),
        end_ms = millis(marks.arrived.elapsed()),
        error = error.map(tracing::field::display),
    );
}

/// How old the client's connection was when the request's header had been read.
fn connection_age(session: &Session, arrived: Instant) -> Option<Duration> {
    Some(connection::of(session)?.age().saturating_sub(arrived.elapsed()))
}

/// To the microsecond.
fn millis(span: Duration) -> f64 {
    span.as_micros() as f64 / 1000.0
}
