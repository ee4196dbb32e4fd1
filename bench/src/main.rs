//! Measures Weir beside its peers and beside what it is made of, in one run: the ratio is the
//! result, because machines differ and drift.
//!
//! Prints tables and writes `target/bench.json`.

mod churn;
mod herd;
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

use clap::{Parser, ValueEnum};

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// The look-up of a host name
    Lookup,
    /// A wake's own share
    Wake,
    /// A thousand requests at once for a sleeping app
    Herd,
    /// From a change to the first request that meets it
    Churn,
    /// Processor time for a request
    Proxy,
    /// Memory for names and connections
    Memory,
}

fn main() -> anyhow::Result<()> {
    // Only the first of a process can be installed, and this is the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = Options::parse();
    let wanted = |measurement| {
        options.measurements.is_empty() || options.measurements.contains(&measurement)
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let mut report = Report::default();
    if wanted(Measurement::Lookup) {
        lookup::measure(&mut report);
    }
    if wanted(Measurement::Wake) {
        runtime.block_on(wake::measure(&mut report))?;
    }
    if wanted(Measurement::Herd) {
        runtime.block_on(herd::measure(&mut report))?;
    }
    // From here on there are proxies on a core of their own.
    if wanted(Measurement::Churn) {
        churn::weir(&mut report)?;
        runtime.block_on(churn::peers(&mut report, &options))?;
    }
    if wanted(Measurement::Proxy) {
        runtime.block_on(proxy::measure(&mut report, &options))?;
    }
    if wanted(Measurement::Memory) {
        runtime.block_on(memory::measure(&mut report, &options))?;
    }
    report.finish()
}
