//! `weir serve` as it was built beside this program, on a state and on ports of its own.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::site::{DOMAIN, sibling};

/// Where it listens: HTTP, HTTPS and the admin API.
pub(crate) type Addresses = [SocketAddr; 3];

/// Ports that nobody has.
pub(crate) fn any() -> Addresses {
    [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 3]
}

/// Until it says where it listens.
const START: Duration = Duration::from_secs(60);

/// The command that serves from a state directory. What else it is to be told is up to the caller.
pub(crate) fn serve(state_dir: &Path, listen: Addresses) -> anyhow::Result<Command> {
    let [http, https, admin] = listen.map(|address| address.to_string());
    let mut command = Command::new(sibling("weir")?);
    command
        .args(["serve", "--base-domain", DOMAIN])
        .args(["--http", &http, "--https", &https, "--admin", &admin])
        .env("WEIR_STATE_DIR", state_dir);
    Ok(command)
}

/// Starts it, with its log in the state directory.
pub(crate) fn spawn(command: &mut Command, state_dir: &Path) -> anyhow::Result<Child> {
    let log = File::options().append(true).create(true).open(log(state_dir))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("{:?} cannot be started", command.get_program()))
}

/// Where it listens, as its log tells. If that comes to nothing, it is ended.
pub(crate) async fn listening(state_dir: &Path, child: &mut Child) -> anyhow::Result<Addresses> {
    let told = addresses(state_dir, child).await;
    told.inspect_err(|_| {
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    })
}

async fn addresses(state_dir: &Path, child: &mut Child) -> anyhow::Result<Addresses> {
    let deadline = Instant::now() + START;
    loop {
        let text = fs::read_to_string(log(state_dir))?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let events: Vec<_> = events.collect();
        let address = |message: &str| -> Option<SocketAddr> {
            let event = events.iter().find(|event| event["message"] == message)?;
            event["address"].as_str()?.parse().ok()
        };
        let told = ["http listens", "https listens", "the admin API listens"].map(address);
        if let [Some(http), Some(https), Some(admin)] = told {
            return Ok([http, https, admin]);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status}: {text}");
        }
        ensure!(Instant::now() < deadline, "the server does not listen: {text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn log(state_dir: &Path) -> PathBuf {
    state_dir.join("weir.log")
}

/// What its admin API wants to be shown.
pub(crate) fn token(state_dir: &Path) -> anyhow::Result<String> {
    Ok(fs::read_to_string(state_dir.join("admin.token"))?.trim().to_owned())
}

/// The certificate of the authority that its clients trust.
pub(crate) fn roots(state_dir: &Path) -> PathBuf {
    state_dir.join("ca.pem")
}
