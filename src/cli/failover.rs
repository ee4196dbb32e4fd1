//! `weir failover`: who serves some host names, and by what law that changes.

use std::fmt::Write;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use serde_json::json;
use weir_config::{AllDown, FailoverMode, Sharing, Span, TargetSpec};
use weir_control::api::wire::{
    FailoverHealth, FailoverHold, FailoverIncident, FailoverResource, FailoverSimulation,
};

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say},
    output::Output,
    table::Table,
};

/// Show and steer failover: who serves some host names, and by what law that changes.
///
/// A policy is written as a file for `weir apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir apply -f failover.yaml
  weir failover ls
  weir failover status shop
  weir failover simulate shop --down cdn-a --client 192.0.2.0/24
  weir failover force shop cdn-b --for 2h
  weir failover freeze shop --for 30m
  weir failover release shop
  weir failover rm shop

Exit codes: 0 done, 2 the server refuses or is not there, 3 of `status`: clients are not served.")]
pub(crate) struct Failover {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them
    #[command(alias = "list")]
    Ls {
        /// How to show them
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show one as it is written
    Show(One),
    /// Show how its names are served now
    Status(One),
    /// Say what would be answered if some targets were down, or well; nothing is changed
    Simulate(Simulate),
    /// Send all clients to one target, for a while
    Force {
        name: String,
        target: String,
        /// For how long, at most 30d
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        time: String,
    },
    /// Leave everything as it is, for a while
    Freeze {
        name: String,
        /// For how long, at most 30d
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        time: String,
    },
    /// Have the law decide again; who had no clients meanwhile comes back by steps
    Release { name: String },
    /// Delete one; its names are answered as if there had been none
    Rm { name: String },
}

#[derive(Debug, Args)]
struct One {
    name: String,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Args)]
struct Simulate {
    #[command(flatten)]
    one: One,
    /// A target that is to be down; may be repeated
    #[arg(long, value_name = "TARGET")]
    down: Vec<String>,
    /// A target that is to be well; may be repeated
    #[arg(long, value_name = "TARGET")]
    up: Vec<String>,
    /// Whose answers are wanted, as 192.0.2.0/24; may be repeated
    #[arg(long = "client", value_name = "NETWORK")]
    clients: Vec<String>,
}

impl Failover {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.verb {
            Verb::Ls { output } => {
                let list = client.get(&["failover-policies"]).await?;
                return output.list(list, "no failover policies", policies);
            }
            Verb::Show(One { name, output }) => {
                let policy: FailoverResource = client.get(&["failover-policies", &name]).await?;
                show(output, &policy, written)?;
            }
            Verb::Status(One { name, output }) => {
                let path = ["failover-policies", &name, "status"];
                let health: FailoverHealth = client.get(&path).await?;
                show(output, &health, served)?;
                let is_served = health.overall != "down";
                return Ok(if is_served { Outcome::Done } else { Outcome::Failed });
            }
            Verb::Simulate(simulate) => simulate.run(&client).await?,
            Verb::Force { name, target, time } => {
                let time = Span::parse(&time).map_err(anyhow::Error::msg)?;
                order(&client, &name, "force", &json!({"target": target, "for": time})).await?;
            }
            Verb::Freeze { name, time } => {
                let time = Span::parse(&time).map_err(anyhow::Error::msg)?;
                order(&client, &name, "freeze", &json!({"for": time})).await?;
            }
            Verb::Release { name } => order(&client, &name, "release", &json!({})).await?,
            Verb::Rm { name } => {
                let path = ["failover-policies", &name];
                client.send(client.request(Method::DELETE, &path, &[])).await?;
                say(format_args!("FailoverPolicy/{name}  deleted"))?;
            }
        }
        Ok(Outcome::Done)
    }
}

impl Simulate {
    async fn run(self, client: &Client) -> anyhow::Result<()> {
        let Self { one: One { name, output }, down, up, clients } = self;
        let path = ["failover-policies", &name, "actions", "simulate"];
        let body = json!({"down": down, "up": up, "clients": clients});
        let request = client.request(Method::POST, &path, &[]).json(&body);
        let simulation: FailoverSimulation = client.json(request).await?;
        show(output, &simulation, simulated)
    }
}

/// Gives an order, and tells how the policy is with it.
async fn order(
    client: &Client,
    name: &str,
    action: &str,
    body: &serde_json::Value,
) -> anyhow::Result<()> {
    let path = ["failover-policies", name, "actions", action];
    let request = client.request(Method::POST, &path, &[]).json(body);
    let health: FailoverHealth = client.json(request).await?;
    say(served(&health))?;
    Ok(())
}

fn show<T: Serialize>(
    output: Output,
    shown: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    match output {
        Output::Json => say(serde_json::to_string_pretty(shown)?)?,
        Output::Table => say(text(shown))?,
    }
    Ok(())
}

fn policies(items: Vec<FailoverResource>) -> Table<5> {
    let mut table = Table::new(["NAME", "PHASE", "MODE", "TARGETS", "HOSTNAMES"]);
    for FailoverResource { name, spec, status, .. } in items {
        let targets: Vec<_> = spec.targets.iter().map(|target| target.name.as_str()).collect();
        table.row([
            name,
            status.phase.as_str().to_owned(),
            mode(spec.mode).to_owned(),
            targets.join(", "),
            spec.hostnames.join(", "),
        ]);
    }
    table
}

/// A policy as it is written.
fn written(policy: &FailoverResource) -> String {
    let FailoverResource { name, spec, status, .. } = policy;
    let mut table = Table::new(["TARGET", "PLACE", "WEIGHT", "CAPACITY", "CHECK"]);
    for target in &spec.targets {
        let scheme = if target.check.tls { "https" } else { "http" };
        table.row([
            target.name.clone(),
            place(target),
            match spec.sharing {
                Sharing::Ordered => String::new(),
                Sharing::Weighted => target.weight.to_string(),
            },
            target.capacity.map(|capacity| format!("{capacity}/s")).unwrap_or_default(),
            format!("{scheme} :{}{}", target.check.port, target.check.path),
        ]);
    }
    let all_down = match spec.all_down {
        AllDown::LastGood => "last good",
        AllDown::FailOpen => "fail open",
        AllDown::FailClosed => "fail closed",
    };
    let (phase, mode, names) = (status.phase.as_str(), mode(spec.mode), spec.hostnames.join(", "));
    let (hold_down, steady, low) = (spec.hold_down, spec.ttl.steady, spec.ttl.low);
    format!(
        "FailoverPolicy/{name}  {phase}, mode {mode}\n{names}\n\n{table}\n\n\
         hold-down {hold_down}, TTL {steady} or {low}, all down: {all_down}"
    )
}

/// Where a target is, in a few words.
fn place(target: &TargetSpec) -> String {
    match (&target.cdn, &target.region, target.own) {
        (Some(cdn), ..) => cdn.clone(),
        (None, Some(region), _) => format!("region {region}"),
        (None, None, true) => "own proxies".to_owned(),
        (None, None, false) => target.addresses.join(", "),
    }
}

/// How the names of a policy are served.
fn served(health: &FailoverHealth) -> String {
    let FailoverHealth { policy, overall, phase, epoch, ttl, .. } = health;
    let none = || "-".to_owned();
    let primary = health.primary.clone().unwrap_or_else(none);
    let standby = health.standby.clone().unwrap_or_else(none);
    let mut text = format!(
        "FailoverPolicy/{policy}  {overall}, {phase}, mode {}\n\
         primary {primary}, standby {standby}; TTL {ttl}s, epoch {epoch}",
        mode(health.mode)
    );
    if let Some(FailoverHold { state, by, target, until }) = &health.hold {
        let target = target.as_ref().map(|target| format!(" to {target}")).unwrap_or_default();
        let _ = write!(text, "\n{state}{target} by {by} until {until}");
    }
    for by_hand in &health.written_by_hand {
        let (name, types) = (&by_hand.hostname, by_hand.types.join(", "));
        let _ = write!(text, "\n{name} is answered by what is written in the zone ({types})");
    }
    let mut table = Table::new([
        "TARGET",
        "SHARE",
        "STANDING",
        "HEALTH",
        "LATENCY",
        "ERRORS",
        "LAST-CHECK",
        "MESSAGE",
    ]);
    for target in &health.targets {
        let share = match target.share == target.decided_share {
            true => format!("{}%", target.share),
            false => format!("{}% (advice: {}%)", target.share, target.decided_share),
        };
        let held = target.held_until.as_ref().map(|until| format!("out until {until}"));
        let message = target.error.iter().cloned().chain(held).collect::<Vec<_>>().join("; ");
        table.row([
            target.name.clone(),
            share,
            target.standing.clone(),
            target.health.clone(),
            target.latency_ms.map(|took| format!("{took:.0}ms")).unwrap_or_default(),
            target.error_rate.map(|rate| format!("{:.2}%", rate * 100.0)).unwrap_or_default(),
            target.last_check.clone().unwrap_or_default(),
            message,
        ]);
    }
    let _ = write!(text, "\n\n{table}");
    if let Some(incident) = &health.incident {
        let _ = write!(text, "\n\n{}", told(incident));
    }
    text
}

/// How a failover went.
fn told(incident: &FailoverIncident) -> String {
    let millis = |what: &str, took: Option<u64>| took.map(|took| format!("{what} {took}ms"));
    let figures = [
        millis("decided in", incident.to_decision_ms),
        millis("routed in", incident.to_route_ms),
        millis("in DNS in", incident.to_dns_ms),
        Some(format!("{} changes of shares", incident.transitions)),
        Some(format!("{} requests left behind", incident.leaked_requests)),
        Some(format!("{} sent again", incident.retried_requests)),
    ];
    let figures: Vec<_> = figures.into_iter().flatten().collect();
    let end = match &incident.closed_at {
        Some(closed) => format!("over since {closed}"),
        None => "goes on".to_owned(),
    };
    let mut text = format!("incident of {}, {end}: {}", incident.opened_at, figures.join(", "));
    for decision in &incident.decisions {
        let _ = write!(text, "\n  {}  {}", decision.at, decision.detail);
    }
    text
}

fn simulated(simulation: &FailoverSimulation) -> String {
    let mut text = String::from("nothing is changed by this\n");
    for decision in &simulation.decisions {
        let _ = writeln!(text, "  {decision}");
    }
    let shares: Vec<_> =
        simulation.shares.iter().map(|one| format!("{} {}%", one.target, one.share)).collect();
    let _ = writeln!(text, "shares: {}\n", shares.join(", "));
    let mut table = Table::new(["CLIENT", "TARGET", "TTL", "ANSWER"]);
    for answer in &simulation.answers {
        table.row([
            answer.client.clone(),
            answer.target.clone().unwrap_or_default(),
            format!("{}s", answer.ttl),
            answer.records.join(", "),
        ]);
    }
    let _ = write!(text, "{table}");
    text
}

fn mode(mode: FailoverMode) -> &'static str {
    match mode {
        FailoverMode::Auto => "auto",
        FailoverMode::Advise => "advise",
        FailoverMode::Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_told_with_what_holds_and_what_is_written_by_hand() {
        let health = json!({
            "policy": "shop", "mode": "advise", "overall": "degraded", "phase": "forced",
            "primary": "cdn-b", "epoch": 7, "ttl": 5,
            "hold": {"state": "forced", "by": "operator", "target": "cdn-b", "until": "T1"},
            "targets": [
                {"name": "cdn-a", "place": "a.example", "share": 0.0, "decided_share": 100.0,
                 "standing": "out", "held_until": "T2", "health": "down", "error": "refused"},
                {"name": "cdn-b", "place": "b.example", "share": 100.0, "decided_share": 100.0,
                 "standing": "in", "health": "up", "latency_ms": 12.4, "error_rate": 0.0012},
            ],
            "written_by_hand": [{"hostname": "w.example", "zone": "example", "types": ["A"]}],
            "incident": {"opened_at": "T0", "to_decision_ms": 410, "leaked_requests": 3, "retried_requests": 2,
                "transitions": 1,
                "decisions": [{"at": "T0", "action": "left", "detail": "cdn-a is left"}]},
        });
        let health: FailoverHealth = serde_json::from_value(health).unwrap();
        let expected = "\
FailoverPolicy/shop  degraded, forced, mode advise
primary cdn-b, standby -; TTL 5s, epoch 7
forced to cdn-b by operator until T1
w.example is answered by what is written in the zone (A)

TARGET  SHARE               STANDING  HEALTH  LATENCY  ERRORS  LAST-CHECK  MESSAGE
cdn-a   0% (advice: 100%)   out       down    -        -       -           refused; out until T2
cdn-b   100%                in        up      12ms     0.12%   -           -

incident of T0, goes on: decided in 410ms, 1 changes of shares, 3 requests left behind, 2 sent again
  T0  cdn-a is left";
        let told = served(&health);
        let spaces = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(spaces(&told), spaces(expected), "{told}");
    }
}
