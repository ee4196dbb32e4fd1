//! What many apps cost that nobody asks for, and how long it takes to look at all of them.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::faked::{DEADLINE, Faked};
use crate::{process, report::Report, site::Site};

/// How many apps there are. What they cost is promised for 10000 and for 50000.
#[derive(Clone, Debug, Args)]
pub(crate) struct ObjectScale {
    /// Objects: sleeping apps whose memory and idle cost are measured
    #[arg(long, default_value_t = 10_000)]
    sleepers: usize,
    /// Objects: apps that a resync looks at
    #[arg(long, default_value_t = 50_000)]
    objects: usize,
}

/// The one that does not sleep.
const AWAKE: &str = "awake";
const RESYNCS: usize = 5;

/// Apps that are made at a time.
const AT_ONCE: usize = 16;
/// For what is freed a moment later.
const REST: Duration = Duration::from_secs(3);
/// Every half a minute all containers are listed: this has two of these times.
const IDLE: Duration = Duration::from_secs(60);

pub(crate) async fn measure(report: &mut Report, scale: &ObjectScale) -> anyhow::Result<()> {
    let ObjectScale { sleepers, objects } = *scale;
    process::make_room()?;
    let site = Site::start()?;
    let faked = Faked::start().await?;
    faked.put(AWAKE, Value::Null, &site).await?;
    wait_for_count(&faked, "ready", 1).await?;
    sleep(REST).await;
    let before = faked.process.memory()?;
    let rate = fill(&faked, &site, 0, sleepers).await?;
    report.figure(&format!("apps written a second, {AT_ONCE} at once"), rate, "", "");
    sleep(REST).await;
    let each = (faked.process.memory()? - before) as f64 / sleepers as f64 / 1024.0;
    report.figure(&format!("memory of each of {sleepers} sleeping apps"), each, "KiB", "<= 8");
    let before = faked.process.cpu()?;
    sleep(IDLE).await;
    let idle = (faked.process.cpu()? - before).as_secs_f64() / IDLE.as_secs_f64();
    report.figure("  a core is busy with them", 100.0 * idle, "%", "<= 1");

    fill(&faked, &site, sleepers, objects - 1).await?;
    let mut samples = Vec::new();
    for _ in 0..RESYNCS {
        samples.push(resync(&faked).await?.as_secs_f64());
    }
    samples.sort_unstable_by(f64::total_cmp);
    let name = format!("full resync of {objects} apps, median of {RESYNCS}");
    report.figure(&name, samples[RESYNCS / 2], "s", "<= 5");
    report.figure("  the longest", samples[RESYNCS - 1], "s", "");
    Ok(())
}

/// Makes apps and waits until they sleep. How many a second were made.
async fn fill(faked: &Faked, site: &Site, from: usize, to: usize) -> anyhow::Result<f64> {
    let policy = json!({"pause_after": "1s", "stop_after": "2s", "min_awake": "0s"});
    let began = Instant::now();
    let make = |n: usize| {
        let (app, policy) = (format!("sleeper-{n:05}"), policy.clone());
        async move { faked.put(&app, policy, site).await }
    };
    stream::iter(from..to).map(make).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let rate = (to - from) as f64 / began.elapsed().as_secs_f64();
    wait_for_count(faked, "stopped", to).await?;
    Ok(rate)
}

async fn wait_for_count(faked: &Faked, state: &str, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = faked.count(state).await?;
        if found == count {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "only {found} of {count} instances are {state}");
        sleep(Duration::from_millis(500)).await;
    }
}

/// From the restart of the engine to the first request by the new address of what runs: all that
/// there is was listed, looked at and published by then.
async fn resync(faked: &Faked) -> anyhow::Result<Duration> {
    let former = faked.ask(AWAKE).await?;
    let began = Instant::now();
    faked.restart_engine()?;
    while faked.ask(AWAKE).await? == former {
        ensure!(began.elapsed() < DEADLINE, "the new address is not noticed");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(began.elapsed())
}
