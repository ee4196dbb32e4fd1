//! The commands that talk to a running server, and the two that need none.

mod apply;
mod audit;
mod cert;
mod change;
mod check;
mod client;
mod client_error;
mod completions;
mod delete;
mod deploy;
mod deployment_log;
mod deployments;
mod device;
mod discover;
mod domain;
mod events;
mod explain;
mod failover;
mod get;
mod host;
mod incident;
mod lines;
mod logs;
mod manifests;
mod members;
mod notifier;
mod operation;
mod outcome;
mod output;
mod progress;
mod provider;
mod record;
mod rolling_update;
mod secret;
mod sleep;
mod snapshot;
mod sse;
mod steps;
mod table;
mod upgrade;
mod zone;

use std::{io, process::ExitCode};

use clap::Subcommand;

/// The commands that talk to a running server.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Apply(apply::Apply),
    Get(get::Get),
    Deploy(deploy::Deploy),
    Redeploy(deployments::Redeploy),
    Rollback(deployments::Rollback),
    Cancel(deployments::Cancel),
    Promote(deployments::Promote),
    Deployments(deployments::Deployments),
    Logs(logs::Logs),
    Events(events::Events),
    Operation(operation::Operation),
    Audit(audit::Audit),
    Cert(cert::Cert),
    Sleep(sleep::Sleep),
    Wake(sleep::Wake),
    Delete(delete::Delete),
    #[command(visible_alias = "secrets")]
    Secret(secret::Secret),
    Host(host::Host),
    Shard(host::Shard),
    Device(device::Device),
    Discover(discover::Discover),
    Domain(domain::Domain),
    Zone(zone::Zone),
    #[command(visible_alias = "records")]
    Record(record::Record),
    Explain(explain::Explain),
    Failover(failover::Failover),
    Provider(provider::Provider),
    Incident(incident::Incident),
    Notifier(notifier::Notifier),
    Snapshot(snapshot::Snapshot),
    Upgrade(upgrade::Upgrade),
    Check(check::Check),
    Completions(completions::Completions),
}

/// Runs a command to its end. `whole` is all of `weir`, from which completions are made.
///
/// # Errors
/// The server cannot be reached, or refuses: exit code 2. What a command itself finds wrong is
/// printed by it and told by its exit code.
pub(crate) fn run(command: Command, whole: clap::Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(command.run(whole)) {
        Ok(outcome) => Ok(outcome.into()),
        // Whoever reads the output has enough of it, as in `weir get apps | head -1`.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

impl Command {
    async fn run(self, whole: clap::Command) -> anyhow::Result<outcome::Outcome> {
        match self {
            Self::Apply(command) => command.run().await,
            Self::Get(command) => command.run().await,
            Self::Deploy(command) => command.run().await,
            Self::Redeploy(command) => command.run().await,
            Self::Rollback(command) => command.run().await,
            Self::Cancel(command) => command.run().await,
            Self::Promote(command) => command.run().await,
            Self::Deployments(command) => command.run().await,
            Self::Logs(command) => command.run().await,
            Self::Events(command) => command.run().await,
            Self::Operation(command) => command.run().await,
            Self::Audit(command) => command.run().await,
            Self::Cert(command) => command.run().await,
            Self::Sleep(command) => command.run().await,
            Self::Wake(command) => command.run().await,
            Self::Delete(command) => command.run().await,
            Self::Secret(command) => command.run().await,
            Self::Host(command) => command.run().await,
            Self::Shard(command) => command.run().await,
            Self::Device(command) => command.run().await,
            Self::Discover(command) => command.run().await,
            Self::Domain(command) => command.run().await,
            Self::Zone(command) => command.run().await,
            Self::Record(command) => command.run().await,
            Self::Explain(command) => command.run().await,
            Self::Failover(command) => command.run().await,
            Self::Provider(command) => command.run().await,
            Self::Incident(command) => command.run().await,
            Self::Notifier(command) => command.run().await,
            Self::Snapshot(command) => command.run().await,
            Self::Upgrade(command) => command.run().await,
            Self::Check(command) => command.run(),
            Self::Completions(command) => command.run(whole),
        }
    }
}

/// Only standard output gives errors of this type as they are; those of the connection are wrapped.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error_but_a_broken_connection_is() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(broken())));
        let wrapped = client_error::ClientError::Interrupted { source: broken().into() };
        assert!(!is_broken_pipe(&anyhow::Error::from(wrapped)));
    }

    #[test]
    fn the_commands_are_well_formed() {
        let whole = Command::augment_subcommands(clap::Command::new("weir"));
        whole.clone().debug_assert();
        for command in whole.get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says what it does");
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("  weir {name}")), "{name} shows an example");
        }
    }
}
