//! `weir`: an edge-aware traffic proxy with its control loop built in.

mod cli;
mod descriptors;
mod dns;
mod lifecycle;
mod logging;
mod paths;
mod ports;
mod serve;
mod tickets;
mod tunnels;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// A request makes some hundred small allocations, most of them Pingora's: with this allocator it
/// costs a sixth less CPU than with glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves apps on subdomains: routes, wakes, deploys and watches them from one process.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true, max_term_width = 100)]
struct Weir {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    #[command(flatten)]
    Client(cli::Command),
}

fn main() -> ExitCode {
    // Rustls must be told which of its providers is meant. This is the first use of it, so that
    // there is none installed yet that could be in the way.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = match Weir::try_parse() {
        Ok(weir) => weir.command,
        Err(error) => return usage(&error),
    };
    let done = match command {
        Command::Serve(args) => serve::serve(args, &Weir::command()).map(|()| ExitCode::SUCCESS),
        Command::Client(command) => cli::run(command, Weir::command()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

/// Prints clap's help or its complaint. A mistake in the call is 1, so that 2 is free for what
/// failed though it was asked rightly.
fn usage(error: &clap::Error) -> ExitCode {
    // Only fails when nobody reads.
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
