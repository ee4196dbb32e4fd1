//! `weir-agent run`: one connection to control, made again whenever it breaks.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use weir_config::Span;
use weir_deploy::{Transport, serve};

use crate::{
    State, ballast, calls, converge,
    identity::{self, Identity},
    keeper::Keeper,
    program, tls,
};

/// Keep this device's apps running, and do what control says.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    docker: Engine,
    /// What lets this device into the tailnet, if it was never there (a Tailscale auth key)
    #[arg(long, env = "WEIR_AGENT_AUTH_KEY", value_name = "KEY", hide_env_values = true)]
    auth_key: Option<String>,
    /// Where apps here call others, at the address of their bridge; below 1024 it takes privileges
    #[arg(long, env = "WEIR_AGENT_CALLS_PORT", value_name = "PORT", default_value_t = 80)]
    calls_port: u16,
    /// How long a newer program, sent by Weir, may take to come back to it
    #[arg(long, env = "WEIR_AGENT_TRIAL", value_name = "SPAN", default_value = "60s",
        value_parser = Span::parse)]
    trial: Span,
    #[command(flatten)]
    state: State,
}

/// The engine that containers are run by.
#[derive(Clone, Debug, Args)]
pub(crate) struct Engine {
    /// The Docker Engine's socket
    #[arg(
        long,
        env = "WEIR_AGENT_DOCKER",
        value_name = "SOCKET",
        default_value = "/var/run/docker.sock"
    )]
    pub(crate) docker: PathBuf,
}

/// Between two tries to reach control: doubles from one to the other, with chance in it, so that
/// many devices do not come back as one.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// A process that takes over may take connections a while before it answers them.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// A connection that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(10);

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        program::give_way(&self.state.state_dir, self.trial.0)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(self.live())? {
            Next::Stop => Ok(()),
            Next::Restart => Err(program::restart().into()),
        }
    }

    async fn live(self) -> anyhow::Result<Next> {
        let dir = self.state.state_dir;
        let identity = Identity::load(&dir)?;
        let key_file = identity::key_file(&dir);
        let key = fs::read_to_string(&key_file)
            .with_context(|| format!("{} cannot be read", key_file.display()))?;
        let mut stop = signal(SignalKind::terminate())?;
        let keeper = Arc::new(Keeper::new(&identity, self.docker.docker, dir.clone()));
        tracing::info!(name = %identity.name, control = identity.control, "this device is up");
        tokio::spawn(converge::keep(keeper.clone()));
        tokio::spawn(keep_ballast(dir.clone()));
        tokio::spawn(calls::receive(keeper.clone(), self.calls_port));
        let lead = async {
            // What is to run here runs before there is any way to control.
            let transport = open(&identity, &dir, self.auth_key).await;
            be_led(&identity, &key, transport, keeper.clone()).await
        };
        tokio::select! {
            () = lead => Ok(Next::Stop),
            () = keeper.restart.notified() => Ok(Next::Restart),
            _ = stop.recv() => Ok(Next::Stop),
            _ = tokio::signal::ctrl_c() => Ok(Next::Stop),
        }
    }
}

/// Why the agent does not go on as it is.
enum Next {
    Stop,
    /// There is a newer program.
    Restart,
}

/// Makes the way to control ready, for as long as it takes.
async fn open(
    identity: &Identity,
    dir: &std::path::Path,
    auth_key: Option<String>,
) -> Arc<dyn Transport> {
    loop {
        match identity.transport.open(dir, auth_key.clone()).await {
            Ok(transport) => return transport,
            Err(error) => tracing::warn!(%error, "there is no way to control yet; trying again"),
        }
        sleep(LONGEST_RETRY).await;
    }
}

/// Does what control says, whenever it can be reached.
async fn be_led(
    identity: &Identity,
    key: &str,
    transport: Arc<dyn Transport>,
    keeper: Arc<Keeper>,
) {
    let mut retry = FIRST_RETRY;
    let mut last = String::new();
    loop {
        let began = Instant::now();
        let ended = connect(identity, key, &*transport, keeper.clone()).await;
        keeper.left_alone();
        let why = ended.err().map_or_else(|| "it was closed".to_owned(), |e| e.to_string());
        // What stays the same is told once, not every two seconds.
        if why != last {
            tracing::warn!(why, "no connection to control; trying again");
            last = why;
        }
        if began.elapsed() > GOOD {
            (retry, last) = (FIRST_RETRY, String::new());
        }
        sleep(retry.mul_f64(rand::random_range(0.5..1.0))).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}

async fn connect(
    identity: &Identity,
    key: &str,
    transport: &dyn Transport,
    keeper: Arc<Keeper>,
) -> io::Result<()> {
    let stream = transport.connect(&identity.control).await?;
    let stream = timeout(HANDSHAKE, tls::connect(identity, key, stream)).await??;
    let left = Arc::new(Notify::new());
    let mut served = tokio::spawn(serve(stream, keeper, left.clone()));
    tokio::select! {
        ended = &mut served => ended.map_err(io::Error::other)?,
        // It goes on beside the next one, for as long as anything is under way on it.
        () = left.notified() => Ok(()),
    }
}

/// Sees to it that there is ballast, whenever there is room for it.
async fn keep_ballast(dir: PathBuf) {
    loop {
        let dir = dir.clone();
        // Only fails when the process ends.
        let _ = tokio::task::spawn_blocking(move || ballast::take(&dir)).await;
        sleep(Duration::from_secs(600)).await;
    }
}
