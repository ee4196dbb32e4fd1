//! Answers to questions over UDP: the processor time of each, beside other servers.
//!
//! All serve the same zones with one thread, minimal answers, no log, and no limit of their rate.

mod api_change;
mod change;
mod peers;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{
    Options, process,
    report::{Best, Report, Table},
};

use peers::{Kind, Server};

/// What is served: so many zones, with so many names each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    zones: usize,
    names: usize,
}

const PLAIN: Shape = Shape { zones: 1, names: 10_000 };
const LARGE: Shape = Shape { zones: 1, names: 1_000_000 };
const MANY: Shape = Shape { zones: 10_000, names: 1 };
const ONE: Shape = Shape { zones: 1, names: 10_000 };

const QUESTIONS: usize = 100_000;
/// In a second.
const RATES: [u32; 3] = [20_000, 40_000, 60_000];
const RATE: u32 = 40_000;

/// Which names are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mix {
    Hits,
    /// 9 of 100 do not exist.
    Mixed,
    /// None exists, and none is asked for twice.
    Flood,
}

/// From a change to its answers: of what is served, and all the way from the admin API.
pub(crate) async fn measure_change(report: &mut Report) -> anyhow::Result<()> {
    change::measure(report).await?;
    api_change::measure(report).await
}

pub(crate) fn measure(report: &mut Report, options: &Options) -> anyhow::Result<()> {
    process::make_room()?;
    let dir = tempfile::tempdir()?;
    let mut table = Table::new("Processor time for a question", "us", Best::Lowest);
    let plain = questions(dir.path(), PLAIN, Mix::Mixed)?;
    for kind in Kind::ALL {
        let server = Server::start(dir.path(), kind, PLAIN)?;
        println!("{:<10} {}", kind.name(), server.version);
        for rate in RATES {
            let row = format!("10,000 names, {rate} a second, 9 % unknown");
            for _ in 0..options.runs {
                table.add(&row, kind.name(), cost(&server, &plain, rate, options.seconds));
            }
        }
    }
    let hits = questions(dir.path(), LARGE, Mix::Hits)?;
    let flood = questions(dir.path(), LARGE, Mix::Flood)?;
    for kind in [Kind::Weir, Kind::Nsd, Kind::Knot] {
        let server = Server::start(dir.path(), kind, LARGE)?;
        for (row, file) in [("1,000,000 names: known", &hits), ("  unknown", &flood)] {
            for _ in 0..options.runs {
                table.add(row, kind.name(), cost(&server, file, RATE, options.seconds));
            }
        }
        table.add("  memory (PSS), MiB", kind.name(), server.memory());
    }
    for (row, shape) in [("one zone: known", ONE), ("10,000 zones: known", MANY)] {
        let file = questions(dir.path(), shape, Mix::Hits)?;
        for kind in [Kind::Weir, Kind::Nsd, Kind::Knot] {
            let server = Server::start(dir.path(), kind, shape)?;
            for _ in 0..options.runs {
                table.add(row, kind.name(), cost(&server, &file, RATE, options.seconds));
            }
        }
    }
    report.table(&table);
    Ok(())
}

/// A file for `dnsperf`, in an order that no cache foresees.
fn questions(dir: &Path, shape: Shape, mix: Mix) -> anyhow::Result<PathBuf> {
    let path = dir.join(format!("questions-{}-{}-{mix:?}", shape.zones, shape.names));
    let mut text = String::new();
    for i in 0..QUESTIONS {
        let (host, zone) = (i * 7919 % shape.names, i * 7919 % shape.zones);
        let is_unknown = mix == Mix::Flood || mix == Mix::Mixed && i % 100 < 9;
        let label = if is_unknown { "none" } else { "host" };
        let host = if is_unknown { i } else { host };
        writeln!(text, "{label}{host}.zone{zone}.test A")?;
    }
    fs::write(&path, text)?;
    Ok(path)
}

/// Microseconds of the server's processor time for each answer.
fn cost(server: &Server, questions: &Path, rate: u32, seconds: u64) -> anyhow::Result<f64> {
    // What is first asked is slower.
    let load = |seconds: u64| {
        let output = Command::new("dnsperf")
            .args(["-s", "127.0.0.1", "-e", "-c", "20", "-q", "1000", "-T", "1"])
            .args(["-p", &server.port.to_string(), "-Q", &rate.to_string()])
            .args(["-l", &seconds.to_string(), "-d"])
            .arg(questions)
            .stderr(Stdio::null())
            .output()
            .context("dnsperf cannot be started; `scripts/setup bench` installs it")?;
        anyhow::Ok(String::from_utf8(output.stdout)?)
    };
    load(1)?;
    let before = server.process.cpu()?;
    let told = load(seconds)?;
    let spent = server.process.cpu()? - before;
    let number = |name: &str| {
        let line = told.lines().find_map(|line| line.trim().strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.and_then(|number| number.parse::<f64>().ok()).context("dnsperf tells no figures")
    };
    let (sent, answered) = (number("Queries sent:")?, number("Queries completed:")?);
    ensure!(answered >= 0.999 * sent, "{answered} of {sent} questions were answered");
    ensure!(answered >= 0.95 * f64::from(rate) * seconds as f64, "the load did not get to {rate}");
    Ok(spent.as_secs_f64() * 1e6 / answered)
}
