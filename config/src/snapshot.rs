//! Everything the data plane serves, as one immutable value.

use std::{sync::Arc, time::Duration};

use imbl::ordmap::DiffItem;

use crate::{
    AppActivity, AppName, Backends, Certificate, Certificates, ClientAuth, DnsName, FailoverName,
    HostPath, Hostname, Pool, ShardName, SleepLevel, SleepPolicy, Steered, TrafficPolicy, Zone,
    dns::{NameMap, suffixes},
    hash::stable_hash,
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
    pub certificates: Arc<Certificates>,
    /// What a certificate authority is answered over HTTP (RFC 8555 section 8.3): by token, the key
    /// authorization.
    pub http_challenges: imbl::OrdMap<Arc<str>, Arc<str>>,
    /// What one is shown that asks for `acme-tls/1` (RFC 8737), by host name.
    pub tls_challenges: imbl::OrdMap<Hostname, Arc<Certificate>>,
    zones: NameMap<Arc<Zone>>,
    apps: imbl::OrdMap<AppName, Arc<AppRoute>>,
    shards: imbl::OrdMap<ShardName, Arc<Pool>>,
    policies: imbl::OrdMap<FailoverName, Arc<Steered>>,
    hosts: HostTable<HostRoutes>,
    /// By the name that they are below. Apart from `hosts`, because they are few, and most names
    /// are not below one.
    wildcards: HostTable<HostRoutes>,
}

/// The routes of one host name, the longest path first.
#[derive(Clone, Debug)]
enum HostRoutes {
    /// The whole host name is one app's, as nearly all are.
    One(Arc<AppRoute>),
    Several(Arc<[(HostPath, Arc<AppRoute>)]>),
}

impl Snapshot {
    /// A snapshot that serves nothing yet.
    pub fn empty(generation: u64, revision: u64, certificates: Arc<Certificates>) -> Self {
        Self { generation, revision, certificates, ..Self::default() }
    }

    /// The route of a request: by its host name's own entry, else by the longest wildcard above it,
    /// and within an entry by the longest path that the request's is equal to or below.
    ///
    /// `host` must be lowercase and without a port, `path` without a query.
    pub fn route(&self, host: &str, path: &str) -> Option<&Arc<AppRoute>> {
        self.find(host, |routes| routes.below(path))
    }

    /// The app whose client certificates a handshake for `host` asks for. A handshake knows no
    /// path, so the first app that asks for any decides for the whole host name.
    pub fn client_auth(&self, host: &str) -> Option<(&Arc<AppRoute>, &ClientAuth)> {
        self.find(host, HostRoutes::client_auth)?
    }

    /// What is found in the host name's own entry, else in the longest wildcard's above it.
    fn find<'a, T>(&'a self, host: &str, find: impl Fn(&'a HostRoutes) -> Option<T>) -> Option<T> {
        if let Some(found) = self.hosts.get(host).and_then(&find) {
            return Some(found);
        }
        if self.wildcards.len() == 0 {
            return None;
        }
        let mut rest = host;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(found) = self.wildcards.get(above).and_then(&find) {
                return Some(found);
            }
            rest = above;
        }
        None
    }

    /// The endpoints that a request for `host` to these backends chooses from; `None` if there is
    /// no such shard, or if it is its client that decides, by a policy.
    pub fn pool<'a>(&'a self, backends: &'a Backends, host: &str) -> Option<&'a Arc<Pool>> {
        match backends {
            Backends::Own(pool) => Some(pool),
            Backends::Shards(shards) => self.shards.get(Self::shard_of(shards, host)?),
            Backends::Failover(_) => None,
        }
    }

    /// Whose a host name is: of several shards the one whose name and the host's hash highest
    /// together, so that another shard more or less moves only its share of the names.
    pub fn shard_of<'a>(shards: &'a [ShardName], host: &str) -> Option<&'a ShardName> {
        match shards {
            [shard] => Some(shard),
            shards => {
                let together =
                    |shard: &&ShardName| stable_hash(&[shard.as_bytes(), host.as_bytes()]);
                shards.iter().max_by_key(together)
            }
        }
    }

    pub fn app(&self, app: &AppName) -> Option<&Arc<AppRoute>> {
        self.apps.get(app)
    }

    pub fn apps(&self) -> impl Iterator<Item = &Arc<AppRoute>> {
        self.apps.values()
    }

    /// The apps whose requests meet something else than in `former`, each with its route. Costs what
    /// has changed.
    pub fn changed_apps<'a>(
        &'a self,
        former: &'a Self,
    ) -> impl Iterator<Item = (AppName, Option<&'a AppRoute>)> {
        former.apps.diff(&self.apps).map(|item| match item {
            DiffItem::Add(name, route) | DiffItem::Update { new: (name, route), .. } => {
                (name.clone(), Some(&**route))
            }
            DiffItem::Remove(name, _) => (name.clone(), None),
        })
    }

    pub fn shard(&self, shard: &ShardName) -> Option<&Arc<Pool>> {
        self.shards.get(shard)
    }

    pub fn shards(&self) -> impl Iterator<Item = (&ShardName, &Arc<Pool>)> {
        self.shards.iter()
    }

    pub fn policy(&self, policy: &FailoverName) -> Option<&Arc<Steered>> {
        self.policies.get(policy)
    }

    pub fn policies(&self) -> impl Iterator<Item = &Arc<Steered>> {
        self.policies.values()
    }

    /// The zone that a name is in: of those that it is at or below, the one with the longest name.
    /// `wire` is lower-cased and uncompressed, as [`DnsName::wire`] gives it.
    pub fn zone_of(&self, wire: &[u8]) -> Option<&Arc<Zone>> {
        suffixes(wire).find_map(|suffix| self.zones.get(suffix))
    }

    pub fn zone(&self, name: &DnsName) -> Option<&Arc<Zone>> {
        self.zones.get(name)
    }

    /// In no order.
    pub fn zones(&self) -> impl ExactSizeIterator<Item = &Arc<Zone>> {
        self.zones.values()
    }

    /// Puts a zone in the place of its former self.
    pub fn insert_zone(&mut self, zone: Arc<Zone>) {
        self.zones.insert(zone.name().clone(), zone);
    }

    pub fn remove_zone(&mut self, name: &DnsName) {
        self.zones.remove(name);
    }

    pub fn host_count(&self) -> usize {
        self.hosts.len() + self.wildcards.len()
    }

    /// Puts an app's route in the place of its former one, names included.
    pub fn insert(&mut self, route: AppRoute) {
        let route = Arc::new(route);
        let former = self.apps.insert(route.app.clone(), route.clone());
        if let Some(former) = former {
            for hostname in former.hostnames.iter().filter(|h| !route.hostnames.contains(h)) {
                self.unbind(hostname, &former.app);
            }
        }
        for hostname in &route.hostnames {
            self.bind(hostname, &route);
        }
    }

    pub fn remove(&mut self, app: &AppName) {
        let Some(former) = self.apps.remove(app) else { return };
        for hostname in &former.hostnames {
            self.unbind(hostname, app);
        }
    }

    pub fn insert_shard(&mut self, name: ShardName, pool: Arc<Pool>) {
        self.shards.insert(name, pool);
    }

    pub fn remove_shard(&mut self, name: &ShardName) {
        self.shards.remove(name);
    }

    pub fn insert_policy(&mut self, steered: Arc<Steered>) {
        self.policies.insert(steered.policy.clone(), steered);
    }

    pub fn remove_policy(&mut self, name: &FailoverName) {
        self.policies.remove(name);
    }

    fn bind(&mut self, hostname: &HostPath, route: &Arc<AppRoute>) {
        let (table, name) = self.place(&hostname.host);
        let routes = match table.get(&name) {
            None => HostRoutes::default(),
            Some(routes) => routes.without(hostname),
        };
        table.insert(name, routes.with(hostname, route));
    }

    /// Takes a name from an app; one that moved to another app meanwhile is that app's.
    fn unbind(&mut self, hostname: &HostPath, app: &AppName) {
        let (table, name) = self.place(&hostname.host);
        let Some(routes) = table.get(&name) else { return };
        if routes.owner(hostname).is_none_or(|route| route.app != *app) {
            return;
        }
        let rest = routes.without(hostname);
        match rest.is_empty() {
            true => table.remove(&name),
            false => table.insert(name, rest),
        }
    }

    /// Where the routes of a host name are, and by which name.
    fn place(&mut self, hostname: &Hostname) -> (&mut HostTable<HostRoutes>, Hostname) {
        match hostname.above_wildcard() {
            Some(above) => (&mut self.wildcards, above),
            None => (&mut self.hosts, hostname.clone()),
        }
    }
}

impl Default for HostRoutes {
    fn default() -> Self {
        Self::Several(Arc::new([]))
    }
}

impl HostRoutes {
    /// The route of a path.
    fn below(&self, path: &str) -> Option<&Arc<AppRoute>> {
        let is_below = |prefix: &str| {
            let rest = path.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.is_empty())
        };
        match self {
            Self::One(route) => Some(route),
            Self::Several(routes) => {
                routes.iter().find(|(at, _)| is_below(at.path())).map(|(_, route)| route)
            }
        }
    }

    /// `None` if requests may be another entry's; inside, `None` if no certificate is asked for.
    fn client_auth(&self) -> Option<Option<(&Arc<AppRoute>, &ClientAuth)>> {
        let asks = |route: &'_ Arc<AppRoute>| route.policy.client_auth.is_some();
        let (asking, whole) = match self {
            Self::One(route) => (asks(route).then_some(route), true),
            Self::Several(routes) => (
                routes.iter().map(|(_, route)| route).find(|route| asks(route)),
                routes.iter().any(|(at, _)| at.path().is_empty()),
            ),
        };
        match asking {
            Some(route) => Some(route.policy.client_auth.as_ref().map(|auth| (route, auth))),
            None => whole.then_some(None),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Several(routes) if routes.is_empty())
    }

    /// Whose exactly this name and path are.
    fn owner(&self, hostname: &HostPath) -> Option<&Arc<AppRoute>> {
        match self {
            Self::One(route) => hostname.path().is_empty().then_some(route),
            Self::Several(routes) => {
                routes.iter().find(|(at, _)| at == hostname).map(|(_, route)| route)
            }
        }
    }

    fn with(self, hostname: &HostPath, route: &Arc<AppRoute>) -> Self {
        let mut routes = match self {
            Self::One(whole) => vec![(HostPath::from(hostname.host.clone()), whole)],
            Self::Several(routes) => routes.to_vec(),
        };
        routes.push((hostname.clone(), route.clone()));
        routes.sort_by_key(|(at, _)| std::cmp::Reverse(at.path().len()));
        match routes.as_slice() {
            [(at, route)] if at.path().is_empty() => Self::One(route.clone()),
            _ => Self::Several(routes.into()),
        }
    }

    fn without(&self, hostname: &HostPath) -> Self {
        match self {
            Self::One(_) if hostname.path().is_empty() => Self::default(),
            Self::One(_) => self.clone(),
            Self::Several(routes) => {
                let kept: Vec<_> =
                    routes.iter().filter(|(at, _)| at != hostname).cloned().collect();
                match kept.as_slice() {
                    [(at, route)] if at.path().is_empty() => Self::One(route.clone()),
                    _ => Self::Several(kept.into()),
                }
            }
        }
    }
}

/// What requests for an app meet.
#[derive(Clone, Debug)]
pub struct AppRoute {
    pub app: AppName,
    pub hostnames: Vec<HostPath>,
    pub state: RouteState,
    pub policy: Arc<TrafficPolicy>,
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
            && (Arc::ptr_eq(&self.policy, &other.policy) || self.policy == other.policy)
            && (self.wake_timeout, self.queue) == (other.wake_timeout, other.queue)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum RouteState {
    /// Requests go to one of these.
    Serving(Backends),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Activity, Authorities};

    fn route(app: &str, hostnames: &[&str]) -> AppRoute {
        let app: AppName = app.parse().unwrap();
        let (wake_timeout, queue) = AppRoute::wait_of(None);
        AppRoute {
            activity: Activity::default().app(&app),
            app,
            hostnames: hostnames.iter().map(|name| name.parse().unwrap()).collect(),
            state: RouteState::Starting,
            policy: Arc::default(),
            wake_timeout,
            queue,
        }
    }

    fn check(snapshot: &Snapshot, host: &str, expected: Option<&str>) {
        let (host, path) = host.split_at(host.find('/').unwrap_or(host.len()));
        let found = snapshot.route(host, path).map(|route| &*route.app);
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

    #[test]
    fn a_longer_path_wins_and_a_path_ends_at_a_slash() {
        let mut snapshot = Snapshot::default();
        snapshot.insert(route("site", &["a.com", "*.com"]));
        snapshot.insert(route("shop", &["a.com/shop", "b.com/shop"]));
        snapshot.insert(route("deep", &["a.com/shop/api"]));
        for (request, expected) in [
            ("a.com/", "site"),
            ("a.com/shop", "shop"),
            ("a.com/shop/", "shop"),
            ("a.com/shopping", "site"),
            ("a.com/shop/api/x", "deep"),
            ("b.com/shop/x", "shop"),
            // A name that has no entry for a path is still below the wildcard.
            ("b.com/", "site"),
        ] {
            check(&snapshot, request, Some(expected));
        }
        snapshot.remove(&"shop".parse().unwrap());
        check(&snapshot, "a.com/shop", Some("site"));
        check(&snapshot, "a.com/shop/api", Some("deep"));
        snapshot.remove(&"deep".parse().unwrap());
        snapshot.remove(&"site".parse().unwrap());
        assert_eq!(snapshot.host_count(), 0);
    }

    #[test]
    fn one_app_that_asks_for_certificates_asks_for_the_whole_host_name() {
        let asking = |name: &str, hostnames: &[&str]| {
            let client_auth =
                Some(ClientAuth { roots: Authorities::from_iter([]), optional: false });
            let policy = Arc::new(TrafficPolicy { client_auth, ..TrafficPolicy::default() });
            AppRoute { policy, ..route(name, hostnames) }
        };
        let mut snapshot = Snapshot::default();
        snapshot.insert(asking("private", &["private.com", "a.com/admin", "*.b.com"]));
        snapshot.insert(route("site", &["a.com", "open.b.com", "part.b.com/shop", "c.com"]));
        for (host, expected) in [
            ("private.com", Some("private")),
            ("a.com", Some("private")),
            ("x.b.com", Some("private")),
            ("part.b.com", Some("private")),
            ("open.b.com", None),
            ("c.com", None),
            ("nobody.com", None),
        ] {
            let found = snapshot.client_auth(host).map(|(route, _)| &*route.app);
            assert_eq!(found, expected, "{host}");
        }
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
            let found = snapshot.route(&host, "/").map(|route| route.hostnames[0].to_string());
            prop_assert_eq!(found.as_ref(), naive);
        }
    }
}
