//! A socket in front of the engine's own that can be taken away: it stands in for an engine that
//! goes away, since the real one is shared with other tests.

use std::{path::PathBuf, process::Command, sync::Mutex};

use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

pub struct Relay {
    pub socket: PathBuf,
    _dir: tempfile::TempDir,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl Relay {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { socket: dir.path().join("docker.sock"), _dir: dir, serving: Mutex::default() }
    }

    pub fn open(&self) {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        let engine = engine();
        let serving = tokio::spawn(async move {
            // Dropped with this task, and with them the connections through it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let engine = engine.clone();
                connections.spawn(async move {
                    let mut far = UnixStream::connect(engine).await.unwrap();
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        *self.serving.lock().unwrap() = Some(serving);
    }

    pub fn close(&self) {
        std::fs::remove_file(&self.socket).unwrap();
        if let Some(serving) = self.serving.lock().unwrap().take() {
            serving.abort();
        }
    }
}

fn engine() -> PathBuf {
    let args = ["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"];
    let output = Command::new("docker").args(args).output().unwrap();
    let host = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(host.trim().trim_start_matches("unix://"))
}
