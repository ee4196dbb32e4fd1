//! The engines of all hosts: each is watched by a task of its own, which begins and ends with its
//! host, and asked by whoever knows its name.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use weir_config::{Host, HostName};
use weir_deploy::Provider;

use crate::{engine, event::Event, executor::Executor, vault::Vault};

/// Makes the adapter of a host's engine. Does no I/O.
pub(crate) struct Connect(pub(crate) Box<Adapter>);
type Adapter = dyn Fn(&Host) -> Arc<dyn Provider> + Send + Sync;

/// Every host's engine, for those who ask beside the loop.
pub(crate) type Providers = Arc<ArcSwap<imbl::OrdMap<HostName, Arc<dyn Provider>>>>;

#[derive(Debug)]
pub(crate) struct Engines {
    connect: Connect,
    vault: Vault,
    events: mpsc::WeakSender<Event>,
    watched: BTreeMap<HostName, Watched>,
    pub(crate) providers: Providers,
}

#[derive(Debug)]
struct Watched {
    host: Arc<Host>,
    #[expect(dead_code, reason = "ends the task when dropped")]
    task: AbortOnDropHandle<()>,
}

impl Engines {
    pub(crate) fn new(connect: Connect, vault: Vault, events: &mpsc::Sender<Event>) -> Self {
        let (watched, providers) = (BTreeMap::new(), Providers::default());
        Self { connect, vault, events: events.downgrade(), watched, providers }
    }

    /// Watches the engines of these hosts and of no others.
    pub(crate) fn keep(
        &mut self,
        hosts: &imbl::OrdMap<HostName, Arc<Host>>,
        executor: &mut Executor,
    ) {
        let is_kept = |name: &HostName, watched: &Watched| {
            hosts.get(name).is_some_and(|host| is_reached_alike(host, &watched.host))
        };
        let kept = self.watched.len();
        self.watched.retain(|name, watched| is_kept(name, watched));
        if kept == self.watched.len() && kept == hosts.len() {
            return;
        }
        executor.close_all_but(|name| self.watched.contains_key(name));
        let new = hosts.values().filter(|host| !self.watched.contains_key(&host.name));
        for host in new.cloned().collect::<Vec<_>>() {
            self.open(host, executor);
        }
        let lanes = executor.providers();
        self.providers.store(Arc::new(lanes));
    }

    fn open(&mut self, host: Arc<Host>, executor: &mut Executor) {
        let Some(events) = self.events.upgrade() else { return };
        let provider = (self.connect.0)(&host);
        executor.open(host.name.clone(), provider.clone());
        let task = tokio::spawn(engine::watch(host.clone(), provider, self.vault.clone(), events));
        let task = AbortOnDropHandle::new(task);
        self.watched.insert(host.name.clone(), Watched { host, task });
    }
}

fn is_reached_alike(one: &Host, other: &Host) -> bool {
    (&one.engine, one.address, &one.disconnect) == (&other.engine, other.address, &other.disconnect)
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connect")
    }
}
