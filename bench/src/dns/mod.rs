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

const QUESTIONS: usize = 100_000;
/// In a second.
const RATES: [u32; 2] = [20_000, 40_000];
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
    let rows = RATES.map(|rate| {
        let name = format!("10,000 names, {rate} a second, 9 % unknown");
        Row { name, load: Load { questions: plain.clone(), rate } }
    });
    let servers = Kind::ALL.map(|kind| Server::start(dir.path(), kind, PLAIN));
    for server in servers.iter().flatten() {
        println!("{:<10} {}", server.kind.name(), server.version);
    }
    take_turns(&mut table, options, servers, &rows)?;

    let few = || [Kind::Weir, Kind::Nsd, Kind::Knot].into_iter();
    let rows = [(KNOWN, Mix::Hits), (UNKNOWN, Mix::Flood)].map(|(name, mix)| {
        let questions = questions(dir.path(), LARGE, mix)?;
        anyhow::Ok(Row { name: name.to_owned(), load: Load { questions, rate: RATE } })
    });
    let rows = rows.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let servers = few().map(|kind| Server::start(dir.path(), kind, LARGE));
    let servers = take_turns(&mut table, options, servers, &rows)?;
    for server in &servers {
        table.add("  memory (PSS), MiB", server.kind.name(), server.memory());
    }
    drop(servers);

    for (name, shape) in [(ONE_ZONE, PLAIN), (MANY_ZONES, MANY)] {
        let questions = questions(dir.path(), shape, Mix::Hits)?;
        let row = Row { name: name.to_owned(), load: Load { questions, rate: RATE } };
        let servers = few().map(|kind| Server::start(dir.path(), kind, shape));
        take_turns(&mut table, options, servers, &[row])?;
    }
    report.table(&table);
    let weir = Kind::Weir.name();
    for (name, [more, less], aim) in [
        ("DNS: unknown names, to known ones", [UNKNOWN, KNOWN], "<= 1.3"),
        ("DNS: 10,000 zones, to one", [MANY_ZONES, ONE_ZONE], "<= 1.2"),
    ] {
        if let (Some(more), Some(less)) = (table.median(more, weir), table.median(less, weir)) {
            report.figure(name, more / less, "x", aim);
        }
    }
    Ok(())
}

const KNOWN: &str = "1,000,000 names: known";
const UNKNOWN: &str = "  unknown";
const ONE_ZONE: &str = "one zone: known";
const MANY_ZONES: &str = "10,000 zones: known";

struct Row {
    name: String,
    load: Load,
}

/// What is asked, and how often in a second.
struct Load {
    questions: PathBuf,
    rate: u32,
}

/// Measures all servers once, then all once more, so that what drifts drifts for all of them.
fn take_turns(
    table: &mut Table,
    options: &Options,
    servers: impl IntoIterator<Item = anyhow::Result<Server>>,
    rows: &[Row],
) -> anyhow::Result<Vec<Server>> {
    let servers = servers.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    // What is first asked is slower.
    for (server, row) in servers.iter().flat_map(|server| rows.iter().map(move |r| (server, r))) {
        row.load.put_on(server, 1)?;
    }
    for _ in 0..options.runs {
        for row in rows {
            for server in &servers {
                let cost = row.load.cost(server, options.seconds);
                table.add(&row.name, server.kind.name(), cost);
            }
        }
    }
    Ok(servers)
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

impl Load {
    /// Microseconds of the server's processor time for each answer.
    fn cost(&self, server: &Server, seconds: u64) -> anyhow::Result<f64> {
        let before = server.process.cpu()?;
        let told = self.put_on(server, seconds)?;
        let spent = server.process.cpu()? - before;
        let number = |name: &str| {
            let line = told.lines().find_map(|line| line.trim().strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            number.and_then(|number| number.parse::<f64>().ok()).context("dnsperf tells no figures")
        };
        let (sent, answered) = (number("Queries sent:")?, number("Queries completed:")?);
        ensure!(answered >= 0.999 * sent, "{answered} of {sent} questions were answered");
        let wanted = f64::from(self.rate) * seconds as f64;
        ensure!(answered >= 0.95 * wanted, "the load did not get to {}", self.rate);
        Ok(spent.as_secs_f64() * 1e6 / answered)
    }

    /// What `dnsperf` says of it.
    fn put_on(&self, server: &Server, seconds: u64) -> anyhow::Result<String> {
        let output = Command::new("dnsperf")
            .args(["-s", "127.0.0.1", "-e", "-c", "20", "-q", "1000", "-T", "1"])
            .args(["-p", &server.port.to_string(), "-Q", &self.rate.to_string()])
            .args(["-l", &seconds.to_string(), "-d"])
            .arg(&self.questions)
            .stderr(Stdio::null())
            .output()
            .context("dnsperf cannot be started; `scripts/setup bench` installs it")?;
        Ok(String::from_utf8(output.stdout)?)
    }
}
