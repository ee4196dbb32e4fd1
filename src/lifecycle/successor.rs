//! The process that takes over from this one, from here: started, tried, trusted.

use std::{
    collections::VecDeque,
    env,
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr},
    task::JoinHandle,
    time::{Instant, interval, timeout, timeout_at},
};
use weir_config::{Activity, Publisher, Snapshot};

use super::{
    channel::Channel,
    protocol::{FromPredecessor, FromSuccessor, Levels, restored, told},
    sockets::Sockets,
};

/// How long it may take from being told that the state is its own to carrying traffic. Meanwhile
/// traffic is carried here, and nobody decides.
const TAKE_OVER: Duration = Duration::from_secs(15);
/// How long a program that has failed may take to end by itself, so that its exit code is known.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How many lines of what it said are told when it fails.
const LINES: usize = 20;
/// How soon the successor hears of what is in use here.
const LEVELS_EVERY: Duration = Duration::from_millis(25);

/// A process that could take over. It is ended when this is dropped, unless it has.
#[derive(Debug)]
pub(crate) struct Successor {
    child: Child,
    channel: Channel,
    /// Collects what it says on standard error.
    words: JoinHandle<VecDeque<String>>,
    pub(crate) process: u32,
    pub(crate) version: String,
    trusted: bool,
}

impl Successor {
    /// Starts the program that this process was started as, as it was started: a file that was
    /// replaced since is the new one. Returns once everything that can be tried was.
    ///
    /// # Errors
    /// The new program is not ready by the deadline; it has ended then.
    pub(crate) async fn prepare(
        sockets: &Sockets,
        state_dir: &Path,
        snapshot: &Snapshot,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + limit;
        let mut this = Self::start(sockets)?;
        let tried = this.try_out(state_dir, snapshot);
        match timeout_at(deadline, tried).await {
            Ok(Ok(())) => Ok(this),
            Ok(Err(error)) => {
                Err(this.failure(error.context("the new program is not ready")).await)
            }
            Err(_) => {
                Err(this.failure(anyhow!("the new program was not ready in {limit:?}")).await)
            }
        }
    }

    fn start(sockets: &Sockets) -> anyhow::Result<Self> {
        let mut args = env::args_os();
        let program = args.next().context("this process does not know its own name")?;
        let shown = Path::new(&program).display().to_string();
        let (near, far) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.args(args).stderr(Stdio::piped());
        // Standard error is heard here until the successor is trusted. Where it goes afterwards, it
        // is told by its standard input.
        command.stdin(io::stderr().as_fd().try_clone_to_owned()?);
        sockets.hand_to(&mut command, far)?;
        let mut command = tokio::process::Command::from(command);
        let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
        // It holds the other end of the channel: only when it is gone is a silence an end.
        drop(command);
        let process = child.id().context("the new program ended at once")?;
        let stderr = child.stderr.take().context("the new program has no standard error")?;
        let words = tokio::spawn(collect(stderr));
        let channel = Channel::from_std(near)?;
        let version = String::new();
        Ok(Self { child, channel, words, process, version, trusted: false })
    }

    async fn try_out(&mut self, state_dir: &Path, snapshot: &Snapshot) -> anyhow::Result<()> {
        self.channel.send(&FromPredecessor::Rehearse(told(snapshot))).await?;
        let FromSuccessor::Ready { version, state_dir: theirs } = self.answer().await? else {
            bail!("it said something else than that it is ready");
        };
        if theirs != state_dir {
            let (theirs, ours) = (theirs.display(), state_dir.display());
            bail!("its state directory is {theirs}, and ours {ours}: stop Weir to change that");
        }
        self.version = version;
        Ok(())
    }

    /// Lets it have everything but the requests in flight. The state directory must be free.
    ///
    /// # Errors
    /// It does not carry traffic in time; it has ended then, and what it had is free again.
    pub(crate) async fn take_over(
        mut self,
        snapshot: &Snapshot,
        activity: &Activity,
    ) -> anyhow::Result<Self> {
        let levels = Levels::of(activity, snapshot.generation);
        let yours = FromPredecessor::Yours { snapshot: told(snapshot), levels };
        let served = async {
            self.channel.send(&yours).await?;
            match self.answer().await? {
                FromSuccessor::Serving => Ok(()),
                other => Err(anyhow!("it said {other:?} and not that it serves")),
            }
        };
        let failure = match timeout(TAKE_OVER, served).await {
            Ok(Ok(())) => {
                self.trusted = true;
                return Ok(self);
            }
            Ok(Err(error)) => error.context("the new program could not take over"),
            Err(_) => anyhow!("the new program did not take over in {TAKE_OVER:?}"),
        };
        Err(self.failure(failure).await)
    }

    async fn answer(&mut self) -> anyhow::Result<FromSuccessor> {
        self.channel.receive().await?.ok_or_else(|| anyhow!("it ended"))
    }

    /// Ends it, and says what is known of why it failed.
    async fn failure(mut self, what: anyhow::Error) -> anyhow::Error {
        let ended = timeout(LAST_WORDS, self.child.wait()).await.ok().and_then(Result::ok);
        if ended.is_none() {
            // It has ended by itself, or it ends now; either way it is gone after the wait.
            let _ = self.child.kill().await;
        }
        let status = ended.map_or_else(String::new, |status| format!(" ({status})"));
        let words = timeout(LAST_WORDS, &mut self.words).await.ok().and_then(Result::ok);
        let words: Vec<_> = words.unwrap_or_default().into();
        match words.as_slice() {
            [] => anyhow!("{what:#}{status}"),
            words => anyhow!("{what:#}{status}; it said:\n{}", words.join("\n")),
        }
    }

    /// Keeps the two processes one: what the successor publishes is served here, and what is in use
    /// here is known there. Never returns.
    pub(crate) async fn follow(
        mut self,
        served: &Snapshot,
        mut publisher: Publisher,
        activity: Arc<Activity>,
    ) {
        let (mut generation, certificates) = (served.generation, served.certificates.clone());
        let mut said = Levels::default();
        let mut ticks = interval(LEVELS_EVERY);
        loop {
            let (receiver, sender) = self.channel.split();
            tokio::select! {
                message = receiver.receive() => match message {
                    Ok(Some(FromSuccessor::Snapshot(snapshot))) => {
                        let mut snapshot = restored(snapshot, &activity);
                        // No connection is made here any more.
                        snapshot.certificates = certificates.clone();
                        let snapshot = Arc::new(snapshot);
                        let newest = snapshot.generation;
                        match publisher.publish(snapshot) {
                            Ok(()) => generation = newest,
                            Err(error) => tracing::error!(%error, "not served here"),
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break tracing::warn!("the new process is gone"),
                    Err(error) => break tracing::error!(%error, "the new process is not heard"),
                },
                sent = sender.flush(), if !sender.is_idle() => if let Err(error) = sent {
                    break tracing::warn!(%error, "the new process does not listen");
                },
                _ = ticks.tick() => {}
            }
            // While it is slow to listen, nothing piles up: it is told next what is so then.
            if !sender.is_idle() {
                continue;
            }
            let levels = Levels::of(&activity, generation);
            if levels != said {
                said = levels.clone();
                if let Err(error) = sender.begin(&FromPredecessor::Levels(levels)) {
                    break tracing::error!(%error, "the new process cannot be told");
                }
            }
        }
        // Requests that wait here go on waiting: without the publisher they would not be told.
        std::future::pending::<()>().await;
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.trusted {
            // It may have ended already.
            let _ = self.child.start_kill();
        }
    }
}

/// Passes on what the new program says, and keeps the last of it.
async fn collect(stderr: ChildStderr) -> VecDeque<String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut last = VecDeque::new();
    while let Ok(Some(line)) = lines.next_line().await {
        // Nobody may be there to read it.
        let _ = writeln!(io::stderr(), "{line}");
        if last.len() == LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last
}
