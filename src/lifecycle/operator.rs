//! A socket in the state directory on which the operator of this machine, `weir upgrade`, asks for
//! what concerns the process. Whoever may enter the directory may use it.

use std::{
    fs, io,
    os::unix::net::UnixListener as StdUnixListener,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};
use weir_control::StateDir;

use super::channel::Channel;

/// How long somebody who has connected may take to say what they want, and to read what is said.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start the program anew and hand everything to it.
    Upgrade { ready_within: Duration },
}

/// What is said on the way to an upgrade; the last one is one of the two last.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Progress {
    Step(String),
    Done(String),
    Failed(String),
}

pub(crate) fn socket_in(state_dir: &Path) -> PathBuf {
    state_dir.join("operator.sock")
}

/// Listens in a state directory that is ours, so that a socket that is there is of a dead process.
pub(crate) fn listen(dir: &StateDir) -> io::Result<StdUnixListener> {
    let file = dir.file("operator.sock");
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    StdUnixListener::bind(&file)
}

/// The server's side.
#[derive(Debug)]
pub(crate) struct Operator(Option<UnixListener>);

impl Operator {
    pub(crate) fn new(listener: Option<&StdUnixListener>) -> io::Result<Self> {
        let Some(listener) = listener else { return Ok(Self(None)) };
        let listener = listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok(Self(Some(UnixListener::from_std(listener)?)))
    }

    /// The next request. Nobody else is listened to meanwhile.
    pub(crate) async fn request(&self) -> (Request, Asker) {
        let Some(listener) = &self.0 else { return std::future::pending().await };
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the operator's socket");
                    // Such as too many open files: this would be again at once.
                    sleep(PATIENCE).await;
                    continue;
                }
            };
            let mut channel = Channel::new(stream);
            match timeout(PATIENCE, channel.receive()).await {
                Ok(Ok(Some(request))) => return (request, Asker(channel)),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the operator's request"),
                Err(_) => tracing::warn!("the operator has connected and says nothing"),
            }
        }
    }
}

/// Who asked, and is told how it goes. That they are gone is no reason not to go on.
#[derive(Debug)]
pub(crate) struct Asker(Channel);

impl Asker {
    pub(crate) async fn say(&mut self, progress: Progress) {
        match &progress {
            Progress::Step(what) => tracing::info!("upgrade: {what}"),
            Progress::Done(what) => tracing::info!("upgraded: {what}"),
            Progress::Failed(why) => {
                tracing::error!("the upgrade failed, and nothing changed: {why}")
            }
        }
        let _ = timeout(PATIENCE, self.0.send(&progress)).await;
    }
}

/// The operator's side.
#[derive(Debug)]
pub(crate) struct Asking(Channel);

impl Asking {
    pub(crate) async fn ask(state_dir: &Path, request: &Request) -> io::Result<Self> {
        let mut channel = Channel::new(UnixStream::connect(socket_in(state_dir)).await?);
        channel.send(request).await?;
        Ok(Self(channel))
    }

    /// What is said next; `None` when the server says nothing more.
    pub(crate) async fn progress(&mut self) -> io::Result<Option<Progress>> {
        self.0.receive().await
    }
}
