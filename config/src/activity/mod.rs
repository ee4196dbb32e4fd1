//! What the data plane is doing, as levels that control reads whenever it plans.
//!
//! Everything here is an atomic, so that a request neither waits nor is waited for. Levels cannot
//! be lost the way events can: a drain, an idle clock and a held request are all read from here.
//! What limits requests is kept here, too, and so outlives the snapshots that say how.

mod answers;
mod bucket;
mod histogram;
mod retry_budget;
mod standing;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    time::Duration,
};

use self::{
    answers::AnswerCounts,
    bucket::{Bucket, ClientBuckets},
    histogram::Histogram,
    retry_budget::RetryBudget,
    standing::Record,
};
pub use self::{
    answers::Answers,
    histogram::{HISTOGRAM_BOUNDS_SECONDS, HistogramReading},
    standing::Standing,
};
use crate::{AppName, Endpoint, EndpointId, Moment, Outlier, Rate, Retries, SleepLevel};

/// The activity of every app and endpoint. Requests never come here: a route in the snapshot
/// carries its entries with it.
#[derive(Debug, Default)]
pub struct Activity {
    apps: Mutex<BTreeMap<AppName, Arc<AppActivity>>>,
    endpoints: Mutex<BTreeMap<EndpointId, Arc<EndpointActivity>>>,
}

impl Activity {
    /// The entry of an app, made if it is new.
    pub fn app(&self, app: &AppName) -> Arc<AppActivity> {
        lock(&self.apps).entry(app.clone()).or_default().clone()
    }

    /// The entry of an endpoint, made if it is new.
    pub fn endpoint(&self, endpoint: &EndpointId) -> Arc<EndpointActivity> {
        lock(&self.endpoints).entry(endpoint.clone()).or_default().clone()
    }

    /// Requests in flight on an endpoint; none on one that has no entry.
    pub fn in_flight_on(&self, endpoint: &EndpointId) -> u64 {
        lock(&self.endpoints).get(endpoint).map_or(0, |activity| activity.in_flight())
    }

    /// How an endpoint has answered; no answers of one that has no entry.
    pub fn answers_of(&self, endpoint: &EndpointId) -> Answers {
        lock(&self.endpoints).get(endpoint).map_or_else(Answers::default, |found| found.answers())
    }

    pub fn remove_app(&self, app: &AppName) {
        lock(&self.apps).remove(app);
    }

    pub fn remove_endpoint(&self, endpoint: &EndpointId) {
        lock(&self.endpoints).remove(endpoint);
    }

    pub fn apps(&self) -> Vec<(AppName, Arc<AppActivity>)> {
        let apps = lock(&self.apps);
        apps.iter().map(|(name, activity)| (name.clone(), activity.clone())).collect()
    }

    pub fn endpoints(&self) -> Vec<(EndpointId, Arc<EndpointActivity>)> {
        let endpoints = lock(&self.endpoints);
        endpoints.iter().map(|(id, activity)| (id.clone(), activity.clone())).collect()
    }
}

/// A panic elsewhere leaves a map of counters as true as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One app's activity.
#[derive(Debug, Default)]
pub struct AppActivity {
    in_flight: InFlight,
    held: AtomicU64,
    last_request: AtomicU64,
    statuses: [AtomicU64; 5],
    connections: [AtomicU64; 3],
    latency: Histogram,
    wake_paused: Histogram,
    wake_stopped: Histogram,
    incidents: [AtomicU64; Incident::ALL.len()],
    retry_budget: RetryBudget,
    rate: Bucket,
    clients: OnceLock<ClientBuckets>,
}

/// What the proxy does to an app's requests beside carrying them, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// A request was sent again.
    Retry,
    /// One was not, because too many had been.
    RetryDenied,
    /// Too many requests of everybody together.
    RateLimited,
    /// Too many requests of one client.
    ClientRateLimited,
    /// Too many requests under way, on the app or on each of its endpoints.
    Overloaded,
    BodyTooLarge,
    /// An endpoint failed so often that it gets no requests for a while.
    Ejection,
}

impl Incident {
    pub const ALL: [Self; 7] = [
        Self::Retry,
        Self::RetryDenied,
        Self::RateLimited,
        Self::ClientRateLimited,
        Self::Overloaded,
        Self::BodyTooLarge,
        Self::Ejection,
    ];
}

impl AppActivity {
    /// Counts a request as in flight until the lease is dropped. WebSockets and long requests hold
    /// theirs for as long as they live.
    pub fn begin(self: &Arc<Self>) -> Lease {
        self.in_flight.add();
        Lease { activity: self.clone(), is_traffic: true }
    }

    /// Requests that have begun and not ended, held ones included.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.count()
    }

    /// The same for who only compares it.
    pub fn load(&self) -> u64 {
        self.in_flight.load()
    }

    /// Requests that wait for the app to be awake.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Takes one of `limit` places in the queue of held requests; `None` when it is full.
    pub fn hold(self: &Arc<Self>, limit: u32) -> Option<Held> {
        let held = Held(self.clone());
        // Counting first and giving back is exact enough: the bound is never exceeded by a holder.
        (self.held.fetch_add(1, Relaxed) < u64::from(limit)).then_some(held)
    }

    /// When the last request began or ended; `Moment(0)` if there was none.
    pub fn last_request(&self) -> Moment {
        Moment(self.last_request.load(Relaxed))
    }

    /// Notes a request's beginning or end on the idle clock.
    pub fn touch(&self, now: Moment) {
        // Of the many requests of one millisecond, one writes, and the others only read.
        if self.last_request.load(Relaxed) < now.0 {
            self.last_request.fetch_max(now.0, Relaxed);
        }
    }

    /// Counts an answered request.
    pub fn served(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.statuses[class].fetch_add(1, Relaxed);
        self.latency.record(took);
    }

    /// Counts a request's way to an instance.
    pub fn connection(&self, connection: UpstreamConnection) {
        self.connections[connection as usize].fetch_add(1, Relaxed);
    }

    pub fn connections(&self, connection: UpstreamConnection) -> u64 {
        self.connections[connection as usize].load(Relaxed)
    }

    /// Counts a request that was held and then released.
    pub fn woken(&self, from: SleepLevel, took: Duration) {
        match from {
            SleepLevel::Paused => self.wake_paused.record(took),
            SleepLevel::Stopped => self.wake_stopped.record(took),
        }
    }

    pub fn count(&self, incident: Incident) {
        self.incidents[incident as usize].fetch_add(1, Relaxed);
    }

    pub fn counted(&self, incident: Incident) -> u64 {
        self.incidents[incident as usize].load(Relaxed)
    }

    /// Counts a request, of which a part may be retries.
    pub fn fund_retries(&self, now: Moment) {
        self.retry_budget.request(now);
    }

    /// Whether a retry is within the budget, which it then takes from.
    pub fn take_retry(&self, policy: &Retries, now: Moment) -> bool {
        self.retry_budget.retry(policy.budget_percent, now)
    }

    /// Counts a request against the rate of all; if it is too much, says how long until it would
    /// not be. `now` is [`Moment::nanos_at`].
    ///
    /// # Errors
    /// The time until a request may come.
    pub fn take(&self, rate: &Rate, now: u64) -> Result<(), Duration> {
        self.rate.take(rate, now)
    }

    /// Counts a request against the rate of its client. The first one makes the table.
    ///
    /// # Errors
    /// The time until a request of this client may come.
    pub fn take_of_client(&self, client: IpAddr, rate: &Rate, now: u64) -> Result<(), Duration> {
        self.clients.get_or_init(ClientBuckets::default).take(client.into(), rate, now)
    }

    /// Answered requests by the first digit of their status, 1 to 5.
    pub fn statuses(&self) -> [u64; 5] {
        std::array::from_fn(|i| self.statuses[i].load(Relaxed))
    }

    pub fn latency(&self) -> HistogramReading {
        self.latency.read()
    }

    pub fn wake(&self, from: SleepLevel) -> HistogramReading {
        match from {
            SleepLevel::Paused => self.wake_paused.read(),
            SleepLevel::Stopped => self.wake_stopped.read(),
        }
    }
}

/// How a request came to its connection to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamConnection {
    New,
    /// One that had carried a request before.
    Reused,
    /// None: the attempt failed.
    Failed,
}

/// One endpoint's activity.
#[derive(Debug, Default)]
pub struct EndpointActivity {
    in_flight: InFlight,
    record: Record,
    answers: AnswerCounts,
}

impl EndpointActivity {
    /// Counts a request as in flight until the lease is dropped.
    pub fn begin(self: &Arc<Self>) -> EndpointLease {
        self.in_flight.add();
        EndpointLease(self.clone())
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight.count()
    }

    /// The same for who only compares it.
    pub fn load(&self) -> u64 {
        self.in_flight.load()
    }

    /// Counts an answer to a request that was forwarded so long ago.
    pub fn answered(&self, is_failure: bool, took: Duration) {
        self.answers.count(is_failure, took);
    }

    /// Counts that a request that was forwarded so long ago gets none.
    pub fn unanswered(&self, took: Duration) {
        self.answers.count_unanswered(took);
    }

    pub fn answers(&self) -> Answers {
        self.answers.read()
    }

    /// Whether it gets no requests, because it failed so often.
    pub fn is_ejected(&self, now: Moment) -> bool {
        self.record.is_ejected(now)
    }
}

impl Endpoint {
    /// Whether it gets no requests, because it failed so often since it was ready.
    pub fn is_ejected(&self, now: Moment) -> bool {
        let record = &self.activity.record;
        record.is_ejected(now) && record.is_of(self.ready_since) && record.is_ejected(now)
    }

    /// How it stands, having been chosen for a request. `None`: its ejection is over, but another
    /// request has just begun to try it, and this one must choose again.
    pub fn stand(&self, policy: &Outlier, now: Moment) -> Option<Standing> {
        let record = &self.activity.record;
        if record.is_of(self.ready_since) {
            record.stand(policy, now)
        } else {
            Some(Standing::Good)
        }
    }

    /// It has answered a request that was given to it with this standing.
    pub fn succeeded(&self, standing: Standing) {
        let record = &self.activity.record;
        if record.is_of(self.ready_since) {
            record.succeeded(standing);
        }
    }

    /// It has failed such a request. Returns whether it is ejected by that.
    pub fn failed(&self, standing: Standing, policy: &Outlier, now: Moment) -> bool {
        let record = &self.activity.record;
        record.is_of(self.ready_since) && record.failed(standing, policy, now)
    }
}

/// How many requests are under way.
///
/// Its fence is one of two; the other is in [`Snapshots::has_newer`](crate::Snapshots::has_newer),
/// between the counting and the second look at what is served. Of a request that begins while a
/// snapshot is being published, either the request sees the new snapshot, or control, which reads
/// the count after publishing, sees the request. So "published without it, and none in flight"
/// means that nobody uses it.
#[derive(Debug, Default)]
struct InFlight(AtomicU64);

impl InFlight {
    fn count(&self) -> u64 {
        fence(SeqCst);
        self.0.load(Relaxed)
    }

    /// Good enough to compare loads by; a drain is not over because of it.
    fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn subtract(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A request in flight on an endpoint; ends when dropped.
#[derive(Debug)]
pub struct EndpointLease(Arc<EndpointActivity>);

impl Drop for EndpointLease {
    fn drop(&mut self) {
        self.0.in_flight.subtract();
    }
}

/// A request in flight on an app; ends when dropped.
#[derive(Debug)]
pub struct Lease {
    activity: Arc<AppActivity>,
    is_traffic: bool,
}

impl Lease {
    /// Ends it for a request that was turned away at the door, and so keeps no app awake.
    pub fn turn_away(mut self) {
        self.is_traffic = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_traffic {
            self.activity.touch(Moment::now());
        }
        self.activity.in_flight.subtract();
    }
}

/// A place in the queue of held requests; given back when dropped.
#[derive(Debug)]
pub struct Held(Arc<AppActivity>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
    }
}
