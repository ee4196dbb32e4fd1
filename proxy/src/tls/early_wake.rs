//! Waking an app at the first word of a handshake, a round trip before its request can come.
//!
//! Anyone can say a name, so this is rationed: for each source, for each app and for all together.
//! An app that is woken so and then not asked for anything is woken so less and less. Nothing is
//! lost but the head start: the request itself wakes the app in any case.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use weir_config::{AppActivity, AppRoute, ClientKey, Observe, RouteState};

/// Decides which handshakes wake an app. Its memory is fixed, and nothing in it waits: sources, and
/// apps, that fall on the same place share what is there.
pub(crate) struct EarlyWake {
    observer: Arc<dyn Observe>,
    enabled: bool,
    begun: Instant,
    hasher: RandomState,
    sources: Box<[Bucket; PLACES]>,
    apps: Box<[Place; PLACES]>,
    all: Bucket,
    issued: AtomicU64,
    used: AtomicU64,
    wasted: AtomicU64,
    refused: AtomicU64,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EarlyWakes {
    pub(crate) issued: u64,
    /// A request for the app came soon after.
    pub(crate) used: u64,
    /// None came.
    pub(crate) wasted: u64,
    /// Nothing was woken, because of a budget or of former waste.
    pub(crate) refused: u64,
}

/// Of each table; a power of two.
const PLACES: usize = 4096;

/// So many at once, and then one in each interval.
struct Budget {
    burst: u64,
    interval: Duration,
}

const PER_SOURCE: Budget = Budget { burst: 4, interval: Duration::from_secs(30) };
const FOR_ALL: Budget = Budget { burst: 32, interval: Duration::from_millis(250) };

/// A request that comes within this time has made use of the wake. Until one does, or the time is
/// over, the app is not woken again.
const USED_WITHIN: Duration = Duration::from_secs(10);

/// After so many wakes in a row that nobody used, an app is left alone: for the first rest, and
/// after each further one for twice as long.
const WASTES: u32 = 3;
const FIRST_REST: Duration = Duration::from_secs(15 * 60);
const LONGEST_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known of an app. Times are in milliseconds since the beginning; 0 is none.
#[derive(Default)]
struct Place {
    /// When it was woken, unless a request has come since.
    woken: AtomicU64,
    /// How often in a row that was for nobody.
    wasted: AtomicU32,
    rests_until: AtomicU64,
}

impl EarlyWake {
    pub(crate) fn new(observer: Arc<dyn Observe>, enabled: bool) -> Self {
        Self {
            observer,
            enabled,
            begun: Instant::now(),
            hasher: RandomState::new(),
            sources: Box::new(std::array::from_fn(|_| Bucket::default())),
            apps: Box::new(std::array::from_fn(|_| Place::default())),
            all: Bucket::default(),
            issued: AtomicU64::new(0),
            used: AtomicU64::new(0),
            wasted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Someone begins a handshake for the app's host name.
    pub(super) fn hello(&self, client: IpAddr, route: &AppRoute) {
        if self.enabled {
            self.hello_at(self.now(), client, route);
        }
    }

    /// A request for the app has come.
    pub(crate) fn request(&self, app: &Arc<AppActivity>) {
        let place = self.place(app);
        // Nearly always.
        if place.woken.load(Relaxed) > 0 {
            self.request_at(self.now(), place);
        }
    }

    pub(crate) fn counts(&self) -> EarlyWakes {
        let now = self.now();
        self.apps.iter().for_each(|place| self.settle(now, place));
        let [issued, used, wasted, refused] =
            [&self.issued, &self.used, &self.wasted, &self.refused]
                .map(|count| count.load(Relaxed));
        EarlyWakes { issued, used, wasted, refused }
    }

    fn hello_at(&self, now: u64, client: IpAddr, route: &AppRoute) {
        if !matches!(route.state, RouteState::Asleep(_)) {
            return;
        }
        let place = self.place(&route.activity);
        self.settle(now, place);
        if place.woken.load(Relaxed) > 0 {
            return;
        }
        if now < place.rests_until.load(Relaxed)
            || !self.source(client).take(now, &PER_SOURCE)
            || !self.all.take(now, &FOR_ALL)
        {
            self.refused.fetch_add(1, Relaxed);
            return;
        }
        if place.woken.compare_exchange(0, now, Relaxed, Relaxed).is_ok() {
            self.issued.fetch_add(1, Relaxed);
            self.observer.wake_wanted(&route.app);
        }
    }

    fn request_at(&self, now: u64, place: &Place) {
        self.settle(now, place);
        if place.woken.swap(0, Relaxed) > 0 {
            self.used.fetch_add(1, Relaxed);
            place.wasted.store(0, Relaxed);
            place.rests_until.store(0, Relaxed);
        }
    }

    /// Takes a wake that nobody has used in time for wasted.
    fn settle(&self, now: u64, place: &Place) {
        let woken = place.woken.load(Relaxed);
        if woken == 0 || now.saturating_sub(woken) <= millis(USED_WITHIN) {
            return;
        }
        if place.woken.compare_exchange(woken, 0, Relaxed, Relaxed).is_err() {
            return;
        }
        self.wasted.fetch_add(1, Relaxed);
        let wasted = place.wasted.fetch_add(1, Relaxed).saturating_add(1);
        if let Some(rests) = wasted.checked_sub(WASTES) {
            let rest = FIRST_REST.saturating_mul(1 << rests.min(16)).min(LONGEST_REST);
            place.rests_until.store(now + millis(rest), Relaxed);
        }
    }

    fn now(&self) -> u64 {
        millis(self.begun.elapsed()) + 1
    }

    /// An app's counters stay where they are for as long as it is there.
    fn place(&self, app: &Arc<AppActivity>) -> &Place {
        const GOLDEN: usize = 0x9e37_79b9_7f4a_7c15;
        let mixed = (Arc::as_ptr(app) as usize).wrapping_mul(GOLDEN);
        &self.apps[mixed >> (usize::BITS - PLACES.trailing_zeros())]
    }

    fn source(&self, client: IpAddr) -> &Bucket {
        &self.sources[self.hasher.hash_one(ClientKey::from(client)) as usize % PLACES]
    }
}

impl fmt::Debug for EarlyWake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyWake").finish_non_exhaustive()
    }
}

/// A token bucket, as the time in milliseconds at which it will be full again.
#[derive(Default)]
struct Bucket(AtomicU64);

impl Bucket {
    fn take(&self, now: u64, budget: &Budget) -> bool {
        let interval = millis(budget.interval);
        let taken = self.0.fetch_update(Relaxed, Relaxed, |full_at| {
            let full_at = full_at.max(now) + interval;
            (full_at - now <= budget.burst * interval).then_some(full_at)
        });
        taken.is_ok()
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv6Addr, sync::Mutex};

    use weir_config::{Activity, AppName, EndpointId, SleepLevel};

    use super::*;

    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;

    #[derive(Default)]
    struct Heard(Mutex<Vec<AppName>>);

    impl Observe for Heard {
        fn wake_wanted(&self, app: &AppName) {
            self.0.lock().unwrap().push(app.clone());
        }

        fn connect_failed(&self, _: &EndpointId) {}
    }

    struct World {
        heard: Arc<Heard>,
        early_wake: EarlyWake,
        routes: Vec<AppRoute>,
    }

    impl World {
        fn new(apps: usize) -> Self {
            let heard = Arc::new(Heard::default());
            let early_wake = EarlyWake::new(heard.clone(), true);
            let route = |i| {
                let app: AppName = format!("app{i}").parse().unwrap();
                AppRoute {
                    activity: Activity::default().app(&app),
                    app,
                    hostnames: Vec::new(),
                    state: RouteState::Asleep(SleepLevel::Paused),
                    policy: Arc::default(),
                    wake_timeout: Duration::from_secs(30),
                    queue: 10,
                }
            };
            Self { heard, early_wake, routes: (0..apps).map(route).collect() }
        }

        fn hello(&self, now: u64, client: &str, app: usize) {
            self.early_wake.hello_at(now, client.parse().unwrap(), &self.routes[app]);
        }

        fn request(&self, now: u64, app: usize) {
            self.early_wake.request_at(now, self.early_wake.place(&self.routes[app].activity));
        }

        fn woken(&self) -> usize {
            self.heard.0.lock().unwrap().len()
        }

        fn rests_for(&self, app: usize) -> u64 {
            self.early_wake.place(&self.routes[app].activity).rests_until.load(Relaxed)
        }
    }

    #[test]
    fn one_source_wakes_no_more_than_its_budget() {
        for (client, neighbour) in
            [("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8::1", "2001:db8::ffff:0:0:1")]
        {
            let world = World::new(40);
            (0..40).for_each(|app| world.hello(1, [client, neighbour][app % 2], app));
            assert_eq!(world.woken(), 4, "{client}");
            world.hello(30 * SECOND, client, 30);
            world.hello(30 * SECOND + 1, client, 31);
            world.hello(30 * SECOND + 1, client, 32);
            assert_eq!(world.woken(), 5, "{client}: one more in each interval");
            world.hello(30 * SECOND + 1, "2001:db8:1::", 33);
            assert_eq!(world.woken(), 6, "another source has a budget of its own");
        }
    }

    #[test]
    fn all_sources_together_wake_no_more_than_the_budget_for_all() {
        let world = World::new(500);
        for app in 0..500 {
            world.hello(1, &Ipv6Addr::from_bits((app as u128) << 64).to_string(), app);
        }
        // Some share a place with another and are not woken beside it.
        assert_eq!(world.woken(), 32);
        let counts = world.early_wake.counts();
        assert_eq!((counts.issued, counts.refused > 400), (32, true), "{counts:?}");
    }

    #[test]
    fn an_app_that_nobody_asks_for_is_left_alone_for_longer_and_longer() {
        let world = World::new(1);
        let mut now = 1;
        for _ in 0..3 {
            world.hello(now, "192.0.2.1", 0);
            world.hello(now + 10 * SECOND, "192.0.2.2", 0);
            now += 10 * SECOND + 1;
        }
        assert_eq!(world.woken(), 3, "once in ten seconds");
        for rest in [15, 30, 60] {
            world.hello(now, "192.0.2.3", 0);
            assert_eq!(world.rests_for(0), now + rest * MINUTE);
            let woken = world.woken();
            world.hello(now + rest * MINUTE - 1, "192.0.2.4", 0);
            assert_eq!(world.woken(), woken, "it rests");
            now += rest * MINUTE;
            world.hello(now, "192.0.2.5", 0);
            assert_eq!(world.woken(), woken + 1, "it has rested");
            now += 10 * SECOND + 1;
        }
    }

    #[test]
    fn a_request_in_time_restores_the_trust() {
        let world = World::new(1);
        let mut now = 1;
        for round in 0..20 {
            world.hello(now, "192.0.2.1", 0);
            // Two of three come too late.
            let late = round % 3 != 0;
            now += 10 * SECOND + u64::from(late);
            world.request(now, 0);
            world.request(now, 0);
            now += MINUTE;
        }
        let counts = world.early_wake.counts();
        assert_eq!(world.woken(), 20, "never three times in a row for nobody");
        assert_eq!(counts, EarlyWakes { issued: 20, used: 7, wasted: 13, refused: 0 });
    }

    #[test]
    fn only_an_app_that_sleeps_is_woken() {
        let mut world = World::new(2);
        world.routes[0].state = RouteState::Starting;
        (0..2).for_each(|app| world.hello(1, "192.0.2.1", app));
        assert_eq!(*world.heard.0.lock().unwrap(), [world.routes[1].app.clone()]);
    }
}
