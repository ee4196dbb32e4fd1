//! The whole of failover at work, with servers that die and a loop that serves what it is told.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use weir_config::{
    Activity, Balance, Desired, Endpoint, EndpointId, FailoverPolicy, MemberId, MemberOf, Moment,
    Pool, Publisher, Reach, Snapshot, Snapshots, Steered, SteeredTarget, channel, parse_documents,
};
use weir_failover::{Health, Phase};

use crate::{
    event::Event,
    failover::{FailoverHandle, FailoverMetrics, FailoverOrder, Surroundings, keep},
    observed::{Observed, PolicySeen},
    reconciler::World,
    store::{Cause, Precondition, Store, Verb},
};

/// A server that says that it is well, until it is dropped.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = axum::serve(listener, Router::new().fallback(async || "well"));
        Self { address, task: tokio::spawn(async move { server.await.unwrap() }) }
    }
}

/// Failover beside a loop that serves what it is told: only that, and at once.
struct Scene {
    store: Store,
    policy: Arc<FailoverPolicy>,
    handle: FailoverHandle,
    events: mpsc::Receiver<Event>,
    activity: Activity,
    publisher: Publisher,
    snapshots: Snapshots,
    generation: u64,
    task: JoinHandle<()>,
    _worlds: watch::Sender<Arc<World>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scene {
    fn new(store: Store, policy: Arc<FailoverPolicy>) -> Self {
        let (publisher, snapshots) = channel(Snapshot::empty(0, 0, Arc::default()));
        let mut desired = Desired::default();
        desired.policies.insert(policy.name.clone(), policy.clone());
        let observed = Observed::new(snapshots.current(), Moment::now());
        let (worlds, world) = watch::channel(Arc::new(World::new(desired, observed)));
        let (told, events) = mpsc::channel(64);
        let with = Surroundings {
            store: store.clone(),
            snapshots: snapshots.clone(),
            events: told,
            own: None,
            references: Vec::new(),
            metrics: FailoverMetrics::new().unwrap(),
        };
        let (handle, task) = keep(with, world);
        let task = tokio::spawn(task);
        let (activity, generation, _worlds) = (Activity::default(), 0, worlds);
        Self {
            store,
            policy,
            handle,
            events,
            activity,
            publisher,
            snapshots,
            generation,
            task,
            _worlds,
        }
    }

    /// Serves what comes until this holds of it. What is served is in the store by then.
    async fn serve_until(&mut self, what: &str, holds: impl Fn(&PolicySeen) -> bool) {
        let serving = async {
            loop {
                let Some(Event::Steered(_, seen)) = self.events.recv().await else { continue };
                let served = self.snapshots.current();
                let served = served.policy(&self.policy.name).map(|served| served.steering);
                if served.is_some_and(|served| served != seen.steering) {
                    let kept = self.store.failover_states().await.unwrap();
                    assert_eq!(kept[0].steering, seen.steering, "it is kept before it is served");
                }
                self.serve(&seen);
                if holds(&seen) {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(30), serving).await.unwrap_or_else(|_| panic!("no {what}"));
    }

    fn serve(&mut self, seen: &PolicySeen) {
        let targets = self.policy.targets.iter().zip(&seen.targets).map(|(meant, target)| {
            let of =
                MemberOf::Target { policy: self.policy.name.clone(), target: meant.name.clone() };
            let endpoint = |address: &IpAddr| {
                let name = address.to_string().parse().unwrap();
                let id = EndpointId::from(MemberId { of: of.clone(), name });
                Endpoint {
                    activity: self.activity.endpoint(&id),
                    id,
                    address: SocketAddr::new(*address, meant.check.port),
                    reach: Reach::Direct,
                    weight: 1,
                    ready_since: Moment(0),
                }
            };
            let endpoints = target.addresses.iter().map(endpoint).collect();
            let pool = Arc::new(Pool::new(endpoints, Balance::default()));
            let (name, place) = (meant.name.clone(), meant.place.clone());
            SteeredTarget { name, place, pool, is_down: target.is_down }
        });
        let steered = Steered::new(self.policy.name.clone(), targets.collect(), seen.steering);
        self.generation += 1;
        let mut snapshot = Snapshot::empty(self.generation, 0, Arc::default());
        snapshot.insert_policy(Arc::new(steered));
        self.publisher.publish(Arc::new(snapshot)).unwrap();
    }

    async fn wait_until_well(&mut self) {
        for _ in 0..200 {
            let status = self.handle.status(&self.policy.name).await.unwrap();
            if status.targets.iter().all(|target| target.health == Health::Up) {
                return;
            }
            // Whatever comes meanwhile is served.
            let soon = timeout(Duration::from_millis(100), self.events.recv()).await;
            if let Ok(Some(Event::Steered(_, seen))) = soon {
                self.serve(&seen);
            }
        }
        panic!("the targets are not known as well");
    }
}

async fn store(dir: &tempfile::TempDir) -> Store {
    let base = "test.example".parse().unwrap();
    Store::open(&dir.path().join("weir.db"), &base).await.unwrap()
}

/// A policy over these servers, in the store.
async fn written(store: &Store, servers: &[&Server]) -> Arc<FailoverPolicy> {
    let targets = servers.iter().enumerate().map(|(i, server)| {
        let (ip, port) = (server.address.ip(), server.address.port());
        format!("{{name: t{i}, addresses: [{ip}], check: {{port: {port}, tls: false}}}}")
    });
    let targets = targets.collect::<Vec<_>>().join(", ");
    let text = format!(
        "{{kind: FailoverPolicy, name: shop, spec: {{hostnames: [shop.example],
           targets: [{targets}]}}}}"
    );
    let value = parse_documents(&text).unwrap()[0].value.clone();
    let (manifest, policy) = FailoverPolicy::read(value).unwrap();
    let cause = Cause { actor: "test", verb: Verb::Put, key: None };
    store.put(&manifest.spec, &policy, Precondition::None, cause).await.unwrap();
    Arc::new(policy)
}

#[tokio::test]
async fn what_is_decided_is_kept_then_served_then_told_and_outlives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Server::start().await, Server::start().await);
    let store = store(&dir).await;
    let policy = written(&store, &[&one, &two]).await;
    let mut scene = Scene::new(store.clone(), policy.clone());
    scene.wait_until_well().await;

    drop(one);
    let is_left = |seen: &PolicySeen| seen.steering.shares.as_slice() == [0, 10_000];
    scene.serve_until("failover", |seen| is_left(seen) && seen.trouble.is_some()).await;
    let told: BTreeMap<_, _> = super::wait_for(async || {
        let status = scene.handle.status(&policy.name).await?;
        let incident = status.incident?;
        incident.figures.to_route?;
        Some(incident.lines.into_iter().map(|(_, action, detail)| (action, detail)).collect())
    })
    .await;
    assert!(told["left"].starts_with("t0 is left: it is down (GET / on 127.0.0.1:"), "{told:?}");
    let epoch = scene.snapshots.current().policy(&policy.name).unwrap().steering.epoch;
    drop(scene);

    let mut scene = Scene::new(store, policy.clone());
    scene.serve_until("what had been served", |seen| seen.steering.epoch == epoch).await;
    let status = scene.handle.status(&policy.name).await.unwrap();
    assert_eq!((status.phase, status.served.epoch), (Phase::FailedOver, epoch));
    assert!(status.incident.is_some(), "it goes on");
    // An order is kept before it is answered.
    let order = FailoverOrder::Force("t0".parse().unwrap(), Duration::from_secs(600));
    let status = scene.handle.order(&policy.name, order).await.unwrap();
    assert_eq!(status.phase, Phase::Forced);
    let kept = scene.store.failover_states().await.unwrap();
    assert_eq!(kept[0].steering.shares.as_slice(), [10_000, 0]);
}
