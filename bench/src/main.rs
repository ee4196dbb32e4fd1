//! Measures Weir beside what it is made of, in one run: the ratio is the result, because machines
//! differ and drift.
//!
//! Prints a table and writes `target/bench.json`. Arguments choose measurements by name; without
//! any, all run.

mod herd;
mod lookup;
mod report;
mod server;
mod wake;

use std::env;

use report::Report;

fn main() -> anyhow::Result<()> {
    // Only the first of a process can be installed, and this is the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chosen: Vec<String> = env::args().skip(1).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    let runtime = tokio::runtime::Runtime::new()?;
    let mut report = Report::default();
    if wanted("lookup") {
        lookup::measure(&mut report);
    }
    if wanted("wake") {
        runtime.block_on(wake::measure(&mut report))?;
    }
    if wanted("herd") {
        runtime.block_on(herd::measure(&mut report))?;
    }
    report.finish()
}
