//! What the proxy knows of one request while it is under way.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use weir_config::{
    AppName, AppRoute, ClientAuth, Endpoint, EndpointId, EndpointLease, Lease, SleepLevel, Standing,
};

use crate::{forwarded::Client, pages::Refusal, timeline::Timeline, upstream::Gate};

/// Lives from a request's header to the last byte of its answer; for a WebSocket, to the end of
/// the tunnel. So do the leases in it, by which control knows the request to be in flight.
pub(crate) struct Context {
    pub(crate) timeline: Timeline,
    pub(crate) request_id: RequestId,
    pub(crate) client: Client,
    /// The app that asks, by a private name; `None` of everybody else.
    pub(crate) caller: Option<AppName>,
    /// The snapshot that the request is pinned to.
    pub(crate) generation: u64,
    /// What the client was asked to prove in the handshake.
    pub(crate) client_auth: Option<ClientAuth>,
    pub(crate) route: Option<Arc<AppRoute>>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) leases: Option<(Lease, Option<EndpointLease>)>,
    /// How deep the app slept when the request came; `None` if it did not sleep.
    pub(crate) wake: Option<SleepLevel>,
    pub(crate) held: Duration,
    /// A held request waits no longer than until then, however often it is held.
    pub(crate) hold_deadline: Option<Instant>,
    pub(crate) attempts: Attempts,
    /// When its time is over, if the app's policy says so; set when it is first forwarded.
    pub(crate) deadline: Option<Instant>,
    /// Bytes of its body that were given to the endpoint of this attempt.
    pub(crate) body: u64,
    /// What bounds the instance's silence where Pingora cannot.
    pub(crate) gate: Option<Arc<Gate>>,
    /// From the trailer of the app's answer.
    pub(crate) grpc_status: Option<u8>,
    /// What to answer when Pingora reports the failure that stands for it.
    pub(crate) refusal: Option<Refusal>,
    /// Why it was refused, where the client is not told.
    pub(crate) reason: Option<String>,
}

/// The attempts to get an answer from an instance.
#[derive(Default)]
pub(crate) struct Attempts {
    /// How often an endpoint was tried, failed attempts and closed connections included.
    pub(crate) tries: u32,
    /// When the first attempt to connect began, of those without a wait in between.
    pub(crate) since: Option<Instant>,
    /// The endpoints that another is preferred to.
    pub(crate) failed: Vec<EndpointId>,
    /// How many of them could not be connected to.
    pub(crate) unreachable: u32,
    /// How often the request was sent again.
    pub(crate) retries: u8,
    /// Before the next one.
    pub(crate) pause: Duration,
    /// How the endpoint of this attempt stood when it was chosen.
    pub(crate) standing: Standing,
    /// Whether a connection that was kept for another request closed under this one.
    pub(crate) met_closed: bool,
    /// Whether an answer was not passed on, because the request is sent again.
    pub(crate) answer_failed: bool,
}

impl Context {
    pub(crate) fn new() -> Self {
        Self {
            timeline: Timeline::begin(),
            request_id: RequestId(rand::random()),
            client: Client::default(),
            caller: None,
            generation: 0,
            client_auth: None,
            route: None,
            endpoint: None,
            leases: None,
            wake: None,
            held: Duration::ZERO,
            hold_deadline: None,
            attempts: Attempts::default(),
            deadline: None,
            body: 0,
            gate: None,
            grpc_status: None,
            refusal: None,
            reason: None,
        }
    }

    /// Whether the request's time will be over in so long.
    pub(crate) fn is_late(&self, after: Duration) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() + after >= deadline)
    }
}

/// Names one request in logs, to the app and to the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId(pub(crate) u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
