//! Measures Weir beside its peers and beside what it is made of, in one run: the ratio is the
//! result, because machines differ and drift.
//!
//! Prints tables and writes `target/bench.json`.

mod certificates;
mod churn;
mod control;
mod dns;
mod edge;
mod engine;
mod failover;
mod herd;
mod ledger;
mod load;
mod lookup;
mod memory;
mod peers;
mod process;
mod proxy;
mod report;
mod server;
mod site;
mod wake;
mod weir;

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use tokio::runtime::Runtime;

pub use engine::Engine;
pub use failover::{Expected, Repeats, Scenario, Seen, live_through};
pub use ledger::deployments::{Done, Proof, Rounds, prove};
use peers::Kind;
use report::Report;

#[derive(Debug, Parser)]
struct Options {
    /// What to measure [default: all]
    #[arg(value_enum)]
    measurements: Vec<Measurement>,
    /// How often each cell of a table is measured; the median counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long each of these runs takes
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// The proxies to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::value_variants())]
    peers: Vec<Kind>,
    /// How often each month of failover is lived through
    #[arg(long, default_value_t = 1000)]
    lives: u64,
    /// How many devices are pretended to be connected
    #[arg(long, default_value_t = 2000)]
    devices: usize,
    #[command(flatten)]
    ledger: ledger::Scale,
    #[command(flatten)]
    certificates: certificates::CertificateScale,
    #[command(flatten)]
    rounds: Rounds,
    #[command(flatten)]
    repeats: Repeats,
    #[command(flatten)]
    objects: control::ObjectScale,
}

/// In the order in which they run: the last of them move this program off the first core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// The look-up of a host name
    Lookup,
    /// Months of failover, in virtual time
    Failover,
    /// Targets that break, before the whole program
    FailoverScenarios,
    /// A wake's own share
    Wake,
    /// A thousand requests at once for a sleeping app
    Herd,
    /// Every request, through swaps, replacements and upgrades
    Ledger,
    /// Every request, through deployments, rollbacks, drains and the loss of a host
    Deployments,
    /// Clients that resume their sessions after an upgrade
    Returning,
    /// From a deployment and a rollback to the first request that meets it
    Rollout,
    /// A device: from its invitation to the first answer, its line, and what its agent costs
    Edge,
    /// What two thousand devices cost at which nothing happens
    Fleet,
    /// From a change by the API to the first request that meets it
    Commits,
    /// From a change to the first request that meets it, in the data plane alone
    Churn,
    /// From a change of a zone to the answers that show it
    DnsChange,
    /// From nothing to a certificate, and very many of them
    Certificates,
    /// Processor time for a request
    Proxy,
    /// Memory for names and connections
    Memory,
    /// Processor time for a question to the DNS
    Dns,
    /// What apps cost that sleep, and a look at all of them
    Objects,
}

/// What the program does.
///
/// # Errors
/// When one of the measurements fails; the others are reported all the same.
pub fn run() -> anyhow::Result<()> {
    // Only the first of a process can be installed, and this is the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = Options::parse();
    let runtime = Runtime::new()?;
    let mut report = Report::new();
    let mut failed = Vec::new();
    for measurement in Measurement::value_variants() {
        if !options.measurements.is_empty() && !options.measurements.contains(measurement) {
            continue;
        }
        // One that fails does not take the figures of the others with it.
        if let Err(error) = measurement.run(&mut report, &options, &runtime) {
            eprintln!("{measurement:?}: {error:#}");
            failed.push(measurement);
        }
    }
    report.finish()?;
    ensure!(failed.is_empty(), "failed: {failed:?}");
    Ok(())
}

impl Measurement {
    fn run(self, report: &mut Report, options: &Options, runtime: &Runtime) -> anyhow::Result<()> {
        match self {
            Self::Lookup => {
                lookup::measure(report);
                Ok(())
            }
            Self::Failover => {
                failover::measure_months(report, options.lives);
                Ok(())
            }
            Self::FailoverScenarios => {
                runtime.block_on(failover::measure_scenarios(report, &options.repeats))
            }
            Self::Wake => runtime.block_on(wake::measure(report)),
            Self::Herd => runtime.block_on(herd::measure(report)),
            Self::Ledger => runtime.block_on(ledger::measure(report, &options.ledger)),
            Self::Deployments => {
                runtime.block_on(ledger::deployments::measure(report, &options.rounds))
            }
            Self::Returning => runtime.block_on(ledger::returning::measure(report)),
            Self::Edge => runtime.block_on(edge::measure(report)),
            Self::Fleet => runtime.block_on(edge::fleet(report, options.devices)),
            Self::Rollout => runtime.block_on(control::rollout(report)),
            Self::Commits => runtime.block_on(control::commits(report)),
            Self::Certificates => runtime.block_on(certificates::measure(report, options)),
            Self::Churn => {
                churn::weir(report)?;
                runtime.block_on(churn::peers(report, options))
            }
            Self::Proxy => runtime.block_on(proxy::measure(report, options)),
            Self::DnsChange => runtime.block_on(dns::measure_change(report)),
            Self::Dns => dns::measure(report, options),
            Self::Objects => runtime.block_on(control::objects(report, &options.objects)),
            Self::Memory => runtime.block_on(memory::measure(report, options)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Options;

    #[test]
    fn its_options_do_not_contradict_each_other() {
        Options::command().debug_assert();
    }
}
