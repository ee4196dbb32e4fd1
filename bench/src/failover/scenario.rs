//! What can go wrong with targets, and what clients see of it.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{clients::Answer, fault::Fault, resolver, stage::Stage};
use crate::report::{Best, Report, Table, quantile};

/// How much is lived through.
#[derive(Clone, Debug, Args)]
pub struct Repeats {
    /// Failover: how often each scenario is lived through
    #[arg(long, default_value_t = 10)]
    pub repeats: usize,
    /// Failover: requests a second
    #[arg(long, default_value_t = 1_000)]
    pub failover_rate: u32,
    /// Failover: seconds of flapping; 600 is what was promised
    #[arg(long, default_value_t = 60)]
    pub flapping: u64,
}

/// What happens to the targets, by the numbers of the research that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    Refuse,
    Reset,
    BlackHole,
    Errors,
    Delay,
    Loss,
    Flap,
    Checks,
    Origin,
    StandbyDies,
    Crash,
    AllDown,
}

/// Where the clients are to be in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Moves,
    Stays,
}

/// What was seen of one life.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub requests: usize,
    /// Of these, with no good answer, and why the first of them had none.
    pub failed: usize,
    pub why: Option<String>,
    /// From the fault to the new shares in the proxy.
    pub routed: Option<Duration>,
    /// From the new shares in the proxy to the first new answer of the DNS.
    pub answered: Option<Duration>,
    /// How often the shares changed since the fault.
    pub transitions: usize,
    /// The 99th percentile of the times in the second after the fault.
    pub p99: Duration,
    /// Answers of the DNS without an address.
    pub empty: usize,
}

impl Scenario {
    pub const ALL: [Self; 12] = [
        Self::Refuse,
        Self::Reset,
        Self::BlackHole,
        Self::Errors,
        Self::Delay,
        Self::Loss,
        Self::Flap,
        Self::Checks,
        Self::Origin,
        Self::StandbyDies,
        Self::Crash,
        Self::AllDown,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Refuse => "S1 refuses",
            Self::Reset => "S2 resets",
            Self::BlackHole => "S3 black hole",
            Self::Errors => "S4 half are 5xx",
            Self::Delay => "S5 +800 ms",
            Self::Loss => "S6 15 % loss",
            Self::Flap => "S7 flaps",
            Self::Checks => "S8 checks only",
            Self::Origin => "S9 both fail",
            Self::StandbyDies => "S10 standby dies",
            Self::Crash => "S12 kill -9",
            Self::AllDown => "S13 all down",
        }
    }

    fn expected(self) -> Expected {
        match self {
            Self::Loss | Self::Checks | Self::Origin | Self::AllDown => Expected::Stays,
            _ => Expected::Moves,
        }
    }

    /// Within which a fault has to be routed around, of what there is an aim for.
    fn aim(self) -> Option<Duration> {
        match self {
            Self::Refuse | Self::Reset => Some(Duration::from_millis(500)),
            Self::BlackHole => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Whether not a single request may fail.
    fn is_covered(self) -> bool {
        matches!(self, Self::Refuse | Self::Reset | Self::BlackHole)
    }
}

pub(crate) async fn measure(report: &mut Report, repeats: &Repeats) -> anyhow::Result<()> {
    let mut table = Table::new("Failover: what clients see", "median", Best::Lowest);
    let mut wrong = Vec::new();
    for scenario in Scenario::ALL {
        let mut lives = Vec::new();
        for _ in 0..repeats.repeats {
            match live_through(scenario, repeats).await {
                Ok(seen) => lives.push(seen),
                Err(error) => wrong.push(format!("{}: {error:#}", scenario.name())),
            }
        }
        let millis = |span: Duration| span.as_secs_f64() * 1000.0;
        for seen in &lives {
            let mut add = |column: &str, value: f64| table.add(scenario.name(), column, Ok(value));
            add("requests", seen.requests as f64);
            add("failed", seen.failed as f64);
            add("p99 ms", millis(seen.p99));
            add("changes", seen.transitions as f64);
            if let (Some(routed), Some(answered)) = (seen.routed, seen.answered) {
                add("routed ms", millis(routed));
                add("to DNS ms", millis(answered));
            }
        }
        tell(report, scenario, &lives);
    }
    report.table(&table);
    resolver::measure(report, repeats).await?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn tell(report: &mut Report, scenario: Scenario, lives: &[Seen]) {
    let name = scenario.name();
    let worst = |of: fn(&Seen) -> usize| lives.iter().map(of).max().unwrap_or_default() as f64;
    let aim = if scenario.is_covered() { "0" } else { "" };
    report.figure(
        &format!("{name}: failed, worst of {}", lives.len()),
        worst(|s| s.failed),
        "",
        aim,
    );
    report.figure(&format!("{name}: empty answers"), worst(|s| s.empty), "", "0");
    let mut routed: Vec<_> = lives.iter().filter_map(|seen| seen.routed).collect();
    let mut answered: Vec<_> = lives.iter().filter_map(|seen| seen.answered).collect();
    if !routed.is_empty() {
        let aim = scenario.aim().map_or_else(String::new, |aim| format!("<= {}", aim.as_millis()));
        report.quantiles(&format!("{name}: fault to route"), &mut routed, ["", &aim]);
        report.quantiles(&format!("{name}: route to DNS"), &mut answered, ["", "<= 50"]);
    }
    if scenario == Scenario::Flap {
        report.figure(&format!("{name}: changes, worst"), worst(|s| s.transitions), "", "<= 2");
    }
}

/// Lives through a scenario once.
///
/// # Errors
/// When the stage cannot be set, or the clients are not where they should be in the end.
pub async fn live_through(scenario: Scenario, repeats: &Repeats) -> anyhow::Result<Seen> {
    let mut stage = Stage::set(repeats.failover_rate, spec(scenario)).await?;
    sleep(Duration::from_secs(1)).await;
    let fault = Instant::now();
    perform(scenario, &mut stage, repeats).await?;
    sleep(Duration::from_secs(1)).await;
    let answers = stage.clients.finish().await?;
    Ok(seen(&stage, &answers, fault))
}

fn spec(scenario: Scenario) -> Value {
    match scenario {
        Scenario::AllDown => json!({"all_down": "last_good"}),
        _ => json!({}),
    }
}

async fn perform(scenario: Scenario, stage: &mut Stage, repeats: &Repeats) -> anyhow::Result<()> {
    let fault = match scenario {
        Scenario::Refuse | Scenario::Crash | Scenario::StandbyDies => Fault::Refuse,
        Scenario::Reset => Fault::Reset,
        Scenario::BlackHole => Fault::BlackHole,
        Scenario::Errors => Fault::Errors(50),
        Scenario::Delay => Fault::Delay(Duration::from_millis(800)),
        Scenario::Loss => Fault::Loss(0.15),
        Scenario::Checks => Fault::Checks,
        Scenario::Flap => {
            let until = Instant::now() + Duration::from_secs(repeats.flapping);
            while Instant::now() < until {
                for fault in [Fault::Refuse, Fault::None] {
                    stage.targets[0].set(fault)?;
                    sleep(Duration::from_secs(5)).await;
                }
            }
            Fault::Refuse
        }
        Scenario::Origin => Fault::Errors(100),
        Scenario::AllDown => Fault::Silence,
    };
    stage.targets[0].set(fault)?;
    match scenario {
        Scenario::Origin | Scenario::AllDown | Scenario::Checks => stage.targets[1].set(fault)?,
        Scenario::Crash => {
            sleep(Duration::from_millis(200)).await;
            stage.server.crash()?;
        }
        _ => {}
    }
    match scenario.expected() {
        Expected::Moves => {
            stage.wait_for("everybody to be at the standby", |log| log.all_at(1).is_some()).await?;
        }
        Expected::Stays => {
            sleep(Duration::from_secs(10)).await;
            let log = stage.seen.log();
            ensure!(log.all_at(0).is_some(), "somebody has moved: {log:?}");
        }
    }
    if scenario == Scenario::StandbyDies {
        // Nobody is well: what was decided stays.
        stage.targets[1].set(Fault::Refuse)?;
        sleep(Duration::from_secs(5)).await;
        let log = stage.seen.log();
        ensure!(log.all_at(1).is_some(), "somebody has moved to a dead target: {log:?}");
        // The first one that is well again gets everybody, whatever its hold-down.
        stage.targets[0].set(Fault::None)?;
        stage.wait_for("everybody to be back", |log| log.all_at(0).is_some()).await?;
    }
    Ok(())
}

fn seen(stage: &Stage, answers: &[Answer], fault: Instant) -> Seen {
    let log = stage.seen.log();
    let since: Vec<&Answer> = answers.iter().filter(|answer| answer.at >= fault).collect();
    let failed: Vec<_> = since.iter().filter_map(|answer| answer.by.as_ref().err()).collect();
    let second = |answer: &&&Answer| answer.at < fault + Duration::from_secs(1);
    let mut took: Vec<_> = since.iter().filter(second).map(|answer| answer.took).collect();
    took.sort_unstable();
    let moved = log.all_at(1).filter(|[routed, _]| *routed >= fault);
    Seen {
        requests: since.len(),
        failed: failed.len(),
        why: failed.first().map(|why| (*why).clone()),
        routed: moved.map(|[routed, _]| routed - fault),
        answered: moved.map(|[routed, answered]| answered.saturating_duration_since(routed)),
        transitions: log.transitions(fault),
        p99: quantile(&took, 0.99),
        empty: log.empty_answers(),
    }
}
