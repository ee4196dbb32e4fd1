//! The process that this one follows, from here.

use std::{fs::File, io, os::unix::net::UnixStream, sync::Arc, time::Duration};

use anyhow::bail;
use tokio::time::interval;
use weir_config::{
    Activity, Backends, EndpointLease, Held, LastGood, Lease, Observe, RouteState, Settings,
    Snapshot, Snapshots, Zone,
};

use super::{
    channel::Channel,
    protocol::{FromPredecessor, FromSuccessor, Levels, restored, told},
};

/// While an app is waited for over there, control is told so again this often: a hint may get lost.
const HINT_EVERY: Duration = Duration::from_secs(1);

/// A process that has handed everything over but its requests in flight.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
    snapshot: Option<LastGood>,
    levels: Levels,
}

impl Predecessor {
    /// Tries everything that can be tried, says so, and returns when the state directory is ours.
    ///
    /// # Errors
    /// What would fail after the hand-over as well; then there is none.
    pub(crate) async fn take_over(stream: UnixStream, settings: &Settings) -> anyhow::Result<Self> {
        let mut channel = Channel::from_std(stream)?;
        let Some(FromPredecessor::Rehearse(snapshot)) = channel.receive().await? else {
            bail!("the process before this one does not say what it serves");
        };
        restored(snapshot, &Activity::default());
        weir_control::rehearse(&settings.state_dir, &settings.base_domain).await?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let state_dir = settings.state_dir.clone();
        channel.send(&FromSuccessor::Ready { version, state_dir }).await?;
        match channel.receive().await? {
            Some(FromPredecessor::Yours { snapshot, levels }) => {
                Ok(Self { channel, snapshot: Some(snapshot), levels })
            }
            Some(_) => bail!("the process before this one said something else than to go on"),
            None => bail!("the process before this one called it off"),
        }
    }

    /// What it served last, to go on with. It has kept the `zones` of that in the state directory.
    pub(crate) fn snapshot(
        &mut self,
        activity: &Activity,
        zones: Vec<Arc<Zone>>,
    ) -> Option<Snapshot> {
        let mut snapshot = restored(self.snapshot.take()?, activity);
        zones.into_iter().for_each(|zone| snapshot.insert_zone(zone));
        Some(snapshot)
    }

    /// Begins to count what is in use over there as in use here. To be called before anything is
    /// decided here.
    pub(crate) fn share(
        self,
        snapshots: Snapshots,
        activity: Arc<Activity>,
        observer: Arc<dyn Observe>,
    ) -> Shared {
        let served = Served::new(&snapshots.current());
        let mut shared = Shared {
            channel: self.channel,
            snapshots,
            activity,
            observer,
            served,
            former: None,
            levels: Levels::default(),
            used: Used::default(),
        };
        shared.take(self.levels);
        shared
    }
}

/// One set of counters, and one thing that is served, in two processes.
pub(crate) struct Shared {
    channel: Channel,
    snapshots: Snapshots,
    activity: Arc<Activity>,
    observer: Arc<dyn Observe>,
    /// What the other process was told last. A request there may begin on any of it, and be on its
    /// way before it is heard of here, so all of it counts as in use.
    served: Served,
    /// What it was told before, until it says that it serves the newer one.
    former: Option<Served>,
    /// What was heard last.
    levels: Levels,
    used: Used,
}

/// Holds every endpoint of a snapshot.
struct Served {
    generation: u64,
    #[expect(dead_code, reason = "held, and given back when dropped")]
    leases: Vec<EndpointLease>,
}

/// Holds what requests of the other process use.
#[derive(Default)]
struct Used {
    apps: Vec<Lease>,
    held: Vec<Held>,
    endpoints: Vec<EndpointLease>,
}

impl Shared {
    /// Tells the other process that this one serves, and stays one with it until it is gone.
    ///
    /// # Errors
    /// It is gone already, or speaks another language.
    pub(crate) async fn serving(mut self) -> io::Result<()> {
        reclaim_standard_streams()?;
        self.channel.send(&FromSuccessor::Serving).await?;
        let mut hints = interval(HINT_EVERY);
        loop {
            let newer = self.snapshots.newer_than(self.served.generation);
            // The other process may be slow to listen; what it says is heard meanwhile.
            let (receiver, sender) = self.channel.split();
            tokio::select! {
                snapshot = newer, if self.former.is_none() && sender.is_idle() => {
                    let next = Served::new(&snapshot);
                    if self.snapshots.has_newer(next.generation) {
                        continue;
                    }
                    self.former = Some(std::mem::replace(&mut self.served, next));
                    sender.begin(&FromSuccessor::Snapshot(told(&snapshot)))?;
                }
                sent = sender.flush(), if !sender.is_idle() => sent?,
                message = receiver.receive() => match message? {
                    Some(FromPredecessor::Levels(levels)) => self.take(levels),
                    Some(_) => {}
                    None => return Ok(()),
                },
                _ = hints.tick() => self.hint(),
            }
        }
    }

    fn take(&mut self, levels: Levels) {
        let mut used = Used::default();
        for level in &levels.apps {
            let app = self.activity.app(&level.app);
            used.apps.extend((0..level.in_flight).map(|_| app.begin()));
            used.held.extend((0..level.held).filter_map(|_| app.hold(u32::MAX)));
        }
        for (endpoint, in_flight) in &levels.endpoints {
            let endpoint = self.activity.endpoint(endpoint);
            used.endpoints.extend((0..*in_flight).map(|_| endpoint.begin()));
        }
        // Only now, so that nothing that is in use reads as unused in between.
        self.used = used;
        if levels.generation == self.served.generation {
            self.former = None;
        }
        self.levels = levels;
        self.hint();
    }

    /// Says which apps are waited for over there.
    fn hint(&self) {
        for level in self.levels.apps.iter().filter(|level| level.held > 0) {
            self.observer.wake_wanted(&level.app);
        }
    }
}

impl Served {
    fn new(snapshot: &Snapshot) -> Self {
        let own = snapshot.apps().filter_map(|route| match &route.state {
            RouteState::Serving(Backends::Own(pool)) => Some(pool),
            _ => None,
        });
        let targets = snapshot.policies().flat_map(|steered| &steered.targets);
        let pools = own.chain(snapshot.shards().map(|(_, pool)| pool));
        let pools = pools.chain(targets.map(|target| &target.pool));
        let endpoints = pools.flat_map(|pool| pool.endpoints());
        let leases = endpoints.map(|endpoint| endpoint.activity.begin()).collect();
        Self { generation: snapshot.generation, leases }
    }
}

/// Until now the other process listened to our standard error. Where it goes from now on lies at
/// our standard input, which is read by nobody.
fn reclaim_standard_streams() -> io::Result<()> {
    rustix::stdio::dup2_stderr(io::stdin())?;
    Ok(rustix::stdio::dup2_stdin(File::open("/dev/null")?)?)
}
