//! Who is let in, and for how long. TLS has made sure of the fingerprints.

use std::{collections::BTreeMap, time::Instant};

use async_trait::async_trait;
use sqlx::{Connection, SqliteConnection};
use tokio::{io::duplex, runtime::Handle, sync::Notify, task::JoinHandle};
use weir_deploy::{Agent, Docker, Provider, serve};

use super::*;
use crate::state_dir::StateDir;

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
        let gate = Gatekeeper::new(store.clone(), authority, connected, None).await.unwrap();
        let (asked, may_begin) = (Arc::default(), Arc::default());
        Self { gate: Arc::new(gate), store, asked, may_begin, dir }
    }

    /// Enrols a device, whose fingerprint is its name, and has it come.
    async fn arrive(&self, name: &str) -> JoinHandle<io::Result<()>> {
        let expires_at = unix_millis() + 3_600_000;
        let invite = Invite { name: None, labels: BTreeMap::new(), expires_at };
        self.store.invite(name, &invite).await.unwrap();
        let about = About::default();
        let claim = Claim { hash: name, fingerprint: name, wish: name.parse(), about: &about };
        self.store.claim(claim).await.unwrap().unwrap();
        let (here, there) = duplex(64 << 10);
        let agent = Arc::new(Waiting {
            engine: Docker::new(HostName::local(), std::path::Path::new("/none"), ""),
            asked: self.asked.clone(),
            may_begin: self.may_begin.clone(),
        });
        tokio::spawn(serve(there, agent, Arc::default()));
        let (gate, name) = (self.gate.clone(), name.to_owned());
        let attended = tokio::spawn(async move { gate.attend(here, &name).await });
        timeout(DEADLINE, self.asked.notified()).await.unwrap();
        attended
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
