//! `weir upgrade`: from one program to the next without a failed request.

use std::{io, path::PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use weir_config::Span;

use super::outcome::{Outcome, say, say_aside};
use crate::{
    lifecycle::operator::{Asking, Progress, Request},
    paths,
};

/// Replace the running server by the program that is installed now.
///
/// Run it after the file of `weir` was replaced, or the settings file changed. The server starts the
/// program anew, as it was started itself, and hands it the listening sockets. Connections are
/// accepted all the time; requests in flight, WebSockets included, end where they began, within the
/// shutdown grace. If the new program fails or is not ready in time, the old one serves on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir upgrade
  weir upgrade --ready-within 2m

Exit codes: 0 the new program serves, 2 the server is not there, 3 the old one serves on.")]
pub(crate) struct Upgrade {
    /// How long the new program may take to read its settings and try a copy of the database
    #[arg(long, default_value = "30s", value_name = "SPAN", value_parser = Span::parse)]
    ready_within: Span,
    /// Where `weir serve` keeps its state [default: /var/lib/weir for root, else ~/.local/state/weir]
    #[arg(long, env = "WEIR_STATE_DIR", value_name = "DIR", hide_env_values = true)]
    state_dir: Option<PathBuf>,
}

impl Upgrade {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let dir = self.state_dir.unwrap_or_else(paths::default_state_dir);
        let request = Request::Upgrade { ready_within: self.ready_within.0 };
        let asked = Asking::ask(&dir, &request).await;
        let mut asking = asked.map_err(|error| explain(&dir.display(), &error))?;
        loop {
            let progress = asking.progress().await.context("the server was not understood")?;
            match progress {
                Some(Progress::Step(what)) => say(what)?,
                Some(Progress::Done(what)) => {
                    say(what)?;
                    return Ok(Outcome::Done);
                }
                Some(Progress::Failed(why)) => {
                    say_aside(format_args!("error: {why}\nthe running server serves on"))?;
                    return Ok(Outcome::Failed);
                }
                None => {
                    say_aside("error: the server ended in the middle; its log says why")?;
                    return Ok(Outcome::Failed);
                }
            }
        }
    }
}

fn explain(dir: &impl std::fmt::Display, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow!(
            "no Weir runs with the state directory {dir}; name the right one by --state-dir"
        ),
        io::ErrorKind::PermissionDenied => anyhow!(
            "no permission to enter {dir}; run this as the user that runs `weir serve`, such as \
             by sudo"
        ),
        _ => anyhow!("cannot reach the server in {dir}: {error}"),
    }
}
