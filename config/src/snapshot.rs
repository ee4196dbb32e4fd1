//! Everything the data plane serves, as one immutable value.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    AppActivity, AppName, Hostname, InFlight, InstanceId, SleepLevel, SleepPolicy, Timeouts,
    host_table::HostTable,
};

/// What is served from one moment to the next. Cloning is cheap and shares structure: a change
/// costs the names that it touches, not all of them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows with every snapshot published, also over restarts.
    pub generation: u64,
    /// The revision of the store that it was planned from.
    pub revision: u64,
    /// In the order of preference; names of a certificate may be wildcards of one label.
    pub certificates: Arc<[Certificate]>,
    apps: imbl::OrdMap<AppName, Arc<AppRoute>>,
    hosts: HostTable,
    /// Apart from `hosts`, because they are few, and most names are not below one.
    wildcards: HostTable,
}

impl Snapshot {
    /// A snapshot that serves nothing yet.
    pub fn empty(generation: u64, revision: u64, certificates: Arc<[Certificate]>) -> Self {
        Self { generation, revision, certificates, ..Self::default() }
    }

    /// The route of a host name: its own entry, else the longest wildcard above it.
    ///
    /// `host` must be lowercase and without a port.
    pub fn route(&self, host: &str) -> Option<&Arc<AppRoute>> {
        self.hosts.get(host).or_else(|| self.wildcard(host))
    }

    fn wildcard(&self, host: &str) -> Option<&Arc<AppRoute>> {
        if self.wildcards.len() == 0 {
            return None;
        }
        // `*.` and the rest of the name, built in place: a look-up allocates nothing.
        let mut pattern = [0u8; 255];
        pattern[0] = b'*';
        let mut rest = host;
        while let Some(dot) = rest.find('.') {
            let suffix = &rest.as_bytes()[dot..];
            pattern.get_mut(1..=suffix.len())?.copy_from_slice(suffix);
            let key = std::str::from_utf8(&pattern[..=suffix.len()]).ok()?;
            if let Some(route) = self.wildcards.get(key) {
                return Some(route);
            }
            rest = &rest[dot + 1..];
        }
        None
    }

    pub fn app(&self, app: &AppName) -> Option<&Arc<AppRoute>> {
        self.apps.get(app)
    }

    pub fn apps(&self) -> impl Iterator<Item = &Arc<AppRoute>> {
        self.apps.values()
    }

    pub fn host_count(&self) -> usize {
        self.hosts.len() + self.wildcards.len()
    }

    /// Puts an app's route in the place of its former one, names included.
    pub fn insert(&mut self, route: AppRoute) {
        self.remove(&route.app);
        let route = Arc::new(route);
        for hostname in &route.hostnames {
            self.table(hostname).insert(hostname.clone(), route.clone());
        }
        self.apps.insert(route.app.clone(), route);
    }

    pub fn remove(&mut self, app: &AppName) {
        let Some(former) = self.apps.remove(app) else { return };
        for hostname in &former.hostnames {
            // A name that moved to another app meanwhile is that app's.
            let table = self.table(hostname);
            if table.get(hostname).is_some_and(|route| route.app == *app) {
                table.remove(hostname);
            }
        }
    }

    fn table(&mut self, hostname: &Hostname) -> &mut HostTable {
        if hostname.starts_with('*') { &mut self.wildcards } else { &mut self.hosts }
    }
}

/// What requests for an app meet.
#[derive(Clone, Debug)]
pub struct AppRoute {
    pub app: AppName,
    pub hostnames: Vec<Hostname>,
    pub state: RouteState,
    pub timeouts: Timeouts,
    /// Bounds of the wait while it wakes or starts.
    pub wake_timeout: Duration,
    pub queue: u32,
    /// Where the proxy counts; control reads the same entry.
    pub activity: Arc<AppActivity>,
}

impl AppRoute {
    /// How long, and how many, requests may wait for an app that has no sleep policy of its own
    /// (it is starting for the first time, or is held for a moment).
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(30);
    pub const DEFAULT_QUEUE: u32 = 1000;

    pub fn wait_of(sleep: Option<&SleepPolicy>) -> (Duration, u32) {
        sleep.map_or((Self::DEFAULT_WAIT, Self::DEFAULT_QUEUE), |s| (s.wake_timeout, s.queue))
    }
}

impl PartialEq for AppRoute {
    /// Equal when a request would meet the same; the counters do not matter.
    fn eq(&self, other: &Self) -> bool {
        self.app == other.app
            && self.hostnames == other.hostnames
            && self.state == other.state
            && self.timeouts == other.timeouts
            && (self.wake_timeout, self.queue) == (other.wake_timeout, other.queue)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum RouteState {
    /// Requests go to one of these; never empty.
    Serving(Vec<Endpoint>),
    /// Requests wait and wake it.
    Asleep(SleepLevel),
    /// Requests wait: no instance is ready yet.
    Starting,
    /// Requests get 503 at once, with this reason.
    Unavailable { reason: String, retry_after: Duration },
}

impl RouteState {
    pub fn is_serving(&self) -> bool {
        matches!(self, Self::Serving(_))
    }

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Serving(_) => "serving",
            Self::Asleep(_) => "asleep",
            Self::Starting => "starting",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// An instance that takes requests.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub instance: InstanceId,
    pub address: SocketAddr,
    pub in_flight: Arc<InFlight>,
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.instance == other.instance && self.address == other.address
    }
}

/// A certificate chain with its key, as PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub names: Vec<Hostname>,
    pub chain_pem: String,
    pub key_pem: String,
}

impl fmt::Debug for Certificate {
    /// The key stays out of every log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Activity;

    fn route(app: &str, hostnames: &[&str]) -> AppRoute {
        let app: AppName = app.parse().unwrap();
        let (wake_timeout, queue) = AppRoute::wait_of(None);
        let second = Duration::from_secs(1);
        AppRoute {
            activity: Activity::default().app(&app),
            app,
            hostnames: hostnames.iter().map(|name| name.parse().unwrap()).collect(),
            state: RouteState::Starting,
            timeouts: Timeouts { connect: second, read: second, write: second },
            wake_timeout,
            queue,
        }
    }

    fn check(snapshot: &Snapshot, host: &str, expected: Option<&str>) {
        let found = snapshot.route(host).map(|route| &*route.app);
        assert_eq!(found, expected, "{host}");
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_a_longer_wildcard_over_a_shorter_one() {
        let mut snapshot = Snapshot::default();
        snapshot.insert(route("wide", &["*.example.com"]));
        snapshot.insert(route("deep", &["*.b.example.com"]));
        snapshot.insert(route("exact", &["a.b.example.com"]));
        check(&snapshot, "a.b.example.com", Some("exact"));
        check(&snapshot, "x.b.example.com", Some("deep"));
        check(&snapshot, "b.example.com", Some("wide"));
        check(&snapshot, "x.y.example.com", Some("wide"));
        check(&snapshot, "example.com", None);
        check(&snapshot, "", None);
        check(&snapshot, &"a.".repeat(200), None);
    }

    #[test]
    fn a_replaced_route_leaves_no_name_behind_and_takes_none_from_others() {
        let mut snapshot = Snapshot::default();
        snapshot.insert(route("one", &["a.com", "b.com"]));
        snapshot.insert(route("two", &["b.com"]));
        snapshot.insert(route("one", &["c.com"]));
        check(&snapshot, "a.com", None);
        check(&snapshot, "b.com", Some("two"));
        check(&snapshot, "c.com", Some("one"));
        snapshot.remove(&"one".parse().unwrap());
        check(&snapshot, "c.com", None);
        assert_eq!(snapshot.host_count(), 1);
    }

    proptest! {
        /// The look-up agrees with the plain reading of the rule.
        #[test]
        fn look_up_equals_a_naive_scan(
            names in proptest::collection::hash_set("(\\*\\.)?[ab](\\.[ab]){0,3}", 0..12),
            host in "[ab](\\.[ab]){0,4}",
        ) {
            let mut snapshot = Snapshot::default();
            for (i, name) in names.iter().enumerate() {
                snapshot.insert(route(&format!("app{i}"), &[name]));
            }
            let naive = names
                .iter()
                .filter(|name| match name.strip_prefix('*') {
                    Some(suffix) => host.ends_with(suffix) && host.len() > suffix.len(),
                    None => **name == host,
                })
                .max_by_key(|name| (!name.starts_with('*'), name.len()));
            let found = snapshot.route(&host).map(|route| route.hostnames[0].to_string());
            prop_assert_eq!(found.as_ref(), naive);
        }
    }
}
