//! What the data plane is doing, as levels that control reads whenever it plans.
//!
//! Everything here is an atomic, so that a request neither waits nor is waited for. Levels cannot
//! be lost the way events can: a drain, an idle clock and a held request are all read from here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    time::Duration,
};

use crate::{AppName, EndpointId, Moment, SleepLevel};

/// Upper bounds, in seconds, of the latency buckets; one more bucket holds the rest.
pub const HISTOGRAM_BOUNDS_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

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
}

impl AppActivity {
    /// Counts a request as in flight until the lease is dropped. WebSockets and long requests hold
    /// theirs for as long as they live.
    pub fn begin(self: &Arc<Self>) -> Lease {
        self.in_flight.add();
        Lease(self.clone())
    }

    /// Requests that have begun and not ended, held ones included.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.count()
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
        self.last_request.fetch_max(now.0, Relaxed);
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
}

/// How many requests are under way.
///
/// The two fences pair up: of a request that begins while a snapshot is being published, either
/// the request sees the new snapshot (it looks after `add`), or control sees the request (it looks
/// after publishing). So "published without it, and none in flight" means that nobody uses it.
#[derive(Debug, Default)]
struct InFlight(AtomicU64);

impl InFlight {
    fn count(&self) -> u64 {
        fence(SeqCst);
        self.0.load(Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Relaxed);
        fence(SeqCst);
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
pub struct Lease(Arc<AppActivity>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.touch(Moment::now());
        self.0.in_flight.subtract();
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

/// Counts in fixed buckets, without a lock.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; HISTOGRAM_BOUNDS_SECONDS.len() + 1],
    sum_micros: AtomicU64,
}

/// A histogram at one moment; the counts are per bucket, not cumulative.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramReading {
    pub buckets: [u64; HISTOGRAM_BOUNDS_SECONDS.len() + 1],
    pub sum_seconds: f64,
}

impl Histogram {
    fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = HISTOGRAM_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(took.as_micros() as u64, Relaxed);
    }

    fn read(&self) -> HistogramReading {
        HistogramReading {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Relaxed)),
            sum_seconds: self.sum_micros.load(Relaxed) as f64 / 1e6,
        }
    }
}
