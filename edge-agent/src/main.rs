//! `weir-agent`: makes a machine a host of Weir, wherever it is and whether or not it can be
//! reached.
//!
//! It keeps one connection to control and does what it is asked there ([`run`]); what it was told
//! to run it goes on running when nobody can tell it anything ([`keeper`], [`converge`]).

mod about;
mod ballast;
mod calls;
mod converge;
mod enroll;
mod files;
mod identity;
mod keeper;
mod program;
mod run;
mod slice;
mod tls;
mod transport;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Make this machine a host of Weir.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  weir-agent enroll --control weir.example.com:8601 --token TOKEN
  weir-agent run
  weir-agent show

`weir device invite`, where Weir runs, prints the first line with everything filled in."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Enroll(enroll::Enroll),
    Run(run::Run),
    Show(Show),
}

/// What is kept, and where.
#[derive(Clone, Debug, Args)]
struct State {
    /// Where this device's identity, and what it is to run, are kept
    #[arg(
        long,
        env = "WEIR_AGENT_STATE_DIR",
        value_name = "DIR",
        default_value = "/var/lib/weir-agent"
    )]
    state_dir: PathBuf,
}

/// Say who this device is and what it is to run, as it is kept here.
#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    state: State,
}

fn main() -> ExitCode {
    let level = EnvFilter::try_from_env("WEIR_AGENT_LOG_LEVEL");
    let level = level.unwrap_or_else(|_| EnvFilter::new("info,tailscale=warn"));
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
    // Nothing else can have installed one before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match Cli::parse().command {
        Command::Enroll(enroll) => enroll.run(),
        Command::Run(run) => run.run(),
        Command::Show(show) => show.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Show {
    fn run(self) -> anyhow::Result<()> {
        let dir = &self.state.state_dir;
        let identity = identity::Identity::load(dir)?;
        println!("{} of {} ({})", identity.name, identity.control, identity.transport);
        let slice = slice::Slice::load(dir);
        println!("epoch {}, {} instances", slice.epoch, slice.instances.len());
        for (name, kept) in &slice.instances {
            println!("  {name}  {:?}  {}", kept.level, kept.spec.template.image);
        }
        Ok(())
    }
}
