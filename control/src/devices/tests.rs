//! Who is let in, and for how long. TLS has made sure of the fingerprints.

use std::{collections::BTreeMap, time::Instant};

use async_trait::async_trait;
use sqlx::{Connection, SqliteConnection};
use tokio::{io::duplex, runtime::Handle, sync::Notify, task::JoinHandle};
use weir_config::{AppName, Desired, Moment, Snapshot};
use weir_deploy::{Agent, Docker, Provider, serve};

use super::*;
use crate::{observed::Observed, state_dir::StateDir};

const DEADLINE: Duration = Duration::from_secs(20);

/// An agent that is asked to begin, and does when it may.
struct Waiting {
    engine: Docker,
    asked: Arc<Notify>,
    may_begin: Arc<Notify>,
}

#[async_trait]
impl Agent for Waiting {
    fn provider(&self) -> &dyn Provider {
        &self.engine
    }

    async fn begin(&self, _: &Begin) -> Result<About, String> {
        self.asked.notify_one();
        self.may_begin.notified().await;
        Ok(About::default())
    }

    fn epoch(&self) -> u64 {
        1
    }
}

/// Devices of which no app calls another.
#[derive(Debug)]
struct NoCalls;

impl Calls for NoCalls {
    fn carry(&self, _: Box<dyn Duplex>, _: SocketAddr, _: AppName) {}
}

struct Bench {
    gate: Arc<Gatekeeper>,
    store: Store,
    asked: Arc<Notify>,
    may_begin: Arc<Notify>,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = "test.example".parse().unwrap();
        let store = Store::open(&dir.path().join("weir.db"), &base).await.unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let authority = DeviceAuthority::open(&state).unwrap();
        let connected = Devices::new(Handle::current());
        let observed = Observed::new(Arc::new(Snapshot::default()), Moment(1));
        let (_, world) = watch::channel(Arc::new(World::new(Desired::default(), observed)));
        let calls = Arc::new(NoCalls);
        let gate = Gatekeeper::new(store.clone(), world, authority, connected, calls, None);
        let gate = gate.await.unwrap();
        let (asked, may_begin) = (Arc::default(), Arc::default());
        Self { gate: Arc::new(gate), store, asked, may_begin, dir }
    }

    /// Enrols a device, whose fingerprint is its name, and has it come.
    async fn arrive(&self, name: &str) -> JoinHandle<io::Result<()>> {
        self.enrol(name, None).await;
        let attended = self.come(name, None);
        timeout(DEADLINE, self.asked.notified()).await.unwrap();
        attended
    }

    async fn enrol(&self, name: &str, node: Option<&str>) {
        let expires_at = unix_millis() + 3_600_000;
        let invite = Invite { name: None, labels: BTreeMap::new(), expires_at };
        self.store.invite(name, &invite).await.unwrap();
        let about = About::default();
        let wish = name.parse();
        let claim = Claim { hash: name, fingerprint: name, wish, about: &about, node };
        self.store.claim(claim).await.unwrap().unwrap();
    }

    fn come(&self, name: &str, node: Option<&str>) -> JoinHandle<io::Result<()>> {
        let (here, there) = duplex(64 << 10);
        let agent = Arc::new(Waiting {
            engine: Docker::new(HostName::local(), std::path::Path::new("/none"), ""),
            asked: self.asked.clone(),
            may_begin: self.may_begin.clone(),
        });
        tokio::spawn(serve(there, agent, Arc::default()));
        let (gate, name) = (self.gate.clone(), name.to_owned());
        let node = node.map(str::to_owned);
        tokio::spawn(async move { gate.attend(here, &name, node).await })
    }

    async fn connect(&self, name: &str) -> JoinHandle<io::Result<()>> {
        let attended = self.arrive(name).await;
        self.may_begin.notify_one();
        let (since, name) = (Instant::now(), name.parse().unwrap());
        while !self.gate.connected.is_connected(&name) {
            assert!(since.elapsed() < DEADLINE);
            sleep(Duration::from_millis(2)).await;
        }
        attended
    }
}

#[tokio::test]
async fn who_is_revoked_while_it_comes_is_not_let_in() {
    let bench = Bench::new().await;
    let attended = bench.arrive("pi").await;
    assert!(bench.gate.revoke(&"pi".parse().unwrap()).await.unwrap());
    bench.may_begin.notify_one();
    let ended = timeout(DEADLINE, attended).await.expect("it is cut off").unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert!(!bench.gate.connected.is_connected(&"pi".parse().unwrap()));
}

#[tokio::test]
async fn who_is_revoked_goes_and_what_cannot_be_read_cuts_off_nobody_else() {
    let bench = Bench::new().await;
    let stays = bench.connect("stays").await;
    let goes = bench.connect("goes").await;
    let file = SqliteConnection::connect(&format!(
        "sqlite://{}",
        bench.dir.path().join("weir.db").display()
    ));
    let damage = "UPDATE devices SET about = 'x' WHERE name = 'stays'";
    sqlx::query(damage).execute(&mut file.await.unwrap()).await.unwrap();
    assert!(bench.gate.revoke(&"goes".parse().unwrap()).await.unwrap());
    let _ = timeout(DEADLINE, goes).await.expect("it is cut off").unwrap();
    assert!(!bench.gate.connected.is_connected(&"goes".parse().unwrap()));
    // Longer than it takes to look the other one up.
    for _ in 0..10 {
        assert!(bench.store.device_of("stays").await.is_err());
    }
    assert!(!stays.is_finished());
    assert!(bench.gate.connected.is_connected(&"stays".parse().unwrap()));
}

#[tokio::test]
async fn a_device_of_a_tailnet_comes_by_its_own_node_alone() {
    let bench = Bench::new().await;
    for (name, enrolled_by, comes_by, is_let_in) in [
        ("bound", Some("n1"), Some("n1"), true),
        ("stolen", Some("n1"), Some("n2"), false),
        ("outside", Some("n1"), None, false),
        ("free", None, None, true),
        ("moved", None, Some("n1"), true),
    ] {
        bench.enrol(name, enrolled_by).await;
        let mut attended = bench.come(name, comes_by);
        let asked = async {
            tokio::select! {
                () = bench.asked.notified() => Ok(()),
                ended = &mut attended => ended.unwrap(),
            }
        };
        let asked = timeout(DEADLINE, asked).await.unwrap();
        let refused = asked.err().map(|error| error.kind());
        assert_eq!(refused, (!is_let_in).then_some(io::ErrorKind::PermissionDenied), "{name}");
        attended.abort();
    }
}
