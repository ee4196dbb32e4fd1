//! `weir failover`: who serves some host names, and by what law that changes.

use clap::{Args, Subcommand};
use reqwest::Method;
use weir_config::{AllDown, FailoverMode, FailoverSpec, Sharing, TargetSpec};
use weir_control::api::wire::FailoverResource;

use super::{
    client::Connection,
    outcome::{Outcome, say},
    output::Output,
    table::Table,
};

/// Show and delete failover policies: who serves some host names, and by what law that changes.
///
/// A policy is written as a file for `weir apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir apply -f failover.yaml
  weir failover ls
  weir failover show shop
  weir failover rm shop

Exit codes: 0 done, 2 the server refuses or is not there.")]
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
    Show {
        name: String,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Delete one; its names are answered as if there had been none
    Rm { name: String },
}

impl Failover {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.verb {
            Verb::Ls { output } => {
                let list = client.get(&["failover-policies"]).await?;
                return output.list(list, "no failover policies", policies);
            }
            Verb::Show { name, output } => {
                let policy: FailoverResource = client.get(&["failover-policies", &name]).await?;
                match output {
                    Output::Json => say(serde_json::to_string_pretty(&policy)?)?,
                    Output::Table => show(&policy)?,
                }
            }
            Verb::Rm { name } => {
                let path = ["failover-policies", &name];
                client.send(client.request(Method::DELETE, &path, &[])).await?;
                say(format_args!("FailoverPolicy/{name}  deleted"))?;
            }
        }
        Ok(Outcome::Done)
    }
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

fn show(policy: &FailoverResource) -> anyhow::Result<()> {
    let FailoverResource { name, spec, status, .. } = policy;
    let FailoverSpec { hold_down, all_down, sharing, .. } = spec;
    say(format_args!(
        "FailoverPolicy/{name}  {}, mode {}",
        status.phase.as_str(),
        mode(spec.mode)
    ))?;
    say(format_args!("{}\n", spec.hostnames.join(", ")))?;
    let mut table = Table::new(["TARGET", "PLACE", "WEIGHT", "CAPACITY", "CHECK"]);
    for target in &spec.targets {
        let scheme = if target.check.tls { "https" } else { "http" };
        table.row([
            target.name.clone(),
            place(target),
            match sharing {
                Sharing::Ordered => String::new(),
                Sharing::Weighted => target.weight.to_string(),
            },
            target.capacity.map(|capacity| format!("{capacity}/s")).unwrap_or_default(),
            format!("{scheme} :{}{}", target.check.port, target.check.path),
        ]);
    }
    say(table)?;
    let all_down = match all_down {
        AllDown::LastGood => "last good",
        AllDown::FailOpen => "fail open",
        AllDown::FailClosed => "fail closed",
    };
    let (steady, low) = (spec.ttl.steady, spec.ttl.low);
    say(format_args!("\nhold-down {hold_down}, TTL {steady} or {low}, all down: {all_down}"))?;
    Ok(())
}

/// Where a target is, in a few words.
pub(super) fn place(target: &TargetSpec) -> String {
    match (&target.cdn, target.own) {
        (Some(cdn), _) => cdn.clone(),
        (None, true) => "own proxies".to_owned(),
        (None, false) => target.addresses.join(", "),
    }
}

fn mode(mode: FailoverMode) -> &'static str {
    match mode {
        FailoverMode::Auto => "auto",
        FailoverMode::Advise => "advise",
        FailoverMode::Off => "off",
    }
}
