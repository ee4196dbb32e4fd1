//! `weir provider`: who answers for zones that are hosted elsewhere.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use weir_config::ProviderSpec;
use weir_control::api::wire::{
    CarriedPolicy, CustomHostnameResource, List, ProviderResource, ProviderTest,
};

use super::{
    client::Connection,
    outcome::{Outcome, say},
    output::Output,
    table::Table,
};

/// Show and test the providers that answer for zones hosted elsewhere.
///
/// A provider is written as a file for `weir apply`, and named by failover policies.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir apply -f provider.yaml
  weir provider test cloudflare
  weir provider ls
  weir provider show cloudflare
  weir provider certificates cloudflare --zone saas.example.com
  weir provider purge cloudflare www.example.com
  weir provider rm cloudflare

Exit codes: 0 done, 2 the server refuses or is not there, 3 the test failed or a policy is behind.")]
pub(crate) struct Provider {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them, with the policies that they carry out
    #[command(alias = "list")]
    Ls {
        /// How to show them
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show one, without what is secret, and how far it is with each policy
    Show {
        name: String,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Ask one whether it takes what it would be told; nothing is changed there
    Test { name: String },
    /// Show the names of others that are served through a zone there, with their certificates
    Certificates {
        name: String,
        /// The zone there by which they are served
        #[arg(long)]
        zone: String,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Have its caches forget all that they have of some names
    Purge {
        name: String,
        #[arg(required = true)]
        hostnames: Vec<String>,
    },
    /// Delete one that no policy names; what it has made there stays
    Rm { name: String },
}

impl Provider {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.verb {
            Verb::Ls { output } => {
                let list = client.get(&["providers"]).await?;
                return output.list(list, "no providers", providers);
            }
            Verb::Show { name, output } => {
                let provider: ProviderResource = client.get(&["providers", &name]).await?;
                return show(&provider, output);
            }
            Verb::Test { name } => {
                let path = ["providers", &name, "actions", "test"];
                let test = client.json(client.request(Method::POST, &path, &[])).await?;
                return tell_test(&name, &test);
            }
            Verb::Certificates { name, zone, output } => {
                let path = ["providers", &name, "custom-hostnames"];
                let list: List<CustomHostnameResource> =
                    client.list(&path, &[("zone", &zone)]).await?;
                return output.list(list, "no names of others", certificates);
            }
            Verb::Purge { name, hostnames } => {
                let path = ["providers", &name, "actions", "purge"];
                let body = json!({"hostnames": hostnames});
                client.send(client.request(Method::POST, &path, &[]).json(&body)).await?;
                say(format_args!("Provider/{name}  forgets {}", hostnames.join(", ")))?;
            }
            Verb::Rm { name } => {
                client.send(client.request(Method::DELETE, &["providers", &name], &[])).await?;
                say(format_args!("Provider/{name}  deleted"))?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn show(provider: &ProviderResource, output: Output) -> anyhow::Result<Outcome> {
    let ProviderResource { name, spec, status, .. } = provider;
    let is_behind = status.policies.iter().any(|policy| policy.error.is_some());
    let outcome = if is_behind { Outcome::Failed } else { Outcome::Done };
    if let Output::Json = output {
        say(serde_json::to_string_pretty(provider)?)?;
        return Ok(outcome);
    }
    say(format_args!("Provider/{name}  {}", place(spec)))?;
    if status.policies.is_empty() {
        return Ok(outcome);
    }
    let mut table = Table::new(["POLICY", "STATE", "EPOCH", "TRIED", "MESSAGE"]);
    for CarriedPolicy { policy, state, epoch, tried_at, error, .. } in &status.policies {
        table.row([
            policy.clone(),
            state.clone(),
            epoch.to_string(),
            tried_at.clone(),
            error.clone().unwrap_or_default(),
        ]);
    }
    say(format_args!("\n{table}"))?;
    Ok(outcome)
}

fn tell_test(name: &str, test: &ProviderTest) -> anyhow::Result<Outcome> {
    match &test.error {
        None => say(format_args!("Provider/{name}  {}", test.found.join("; ")))?,
        Some(error) => say(format_args!("Provider/{name}  {error}"))?,
    }
    Ok(if test.passed { Outcome::Done } else { Outcome::Failed })
}

fn providers(items: Vec<ProviderResource>) -> Table<4> {
    let mut table = Table::new(["NAME", "PLACE", "POLICIES", "MESSAGE"]);
    for ProviderResource { name, spec, status, .. } in items {
        let policies: Vec<_> = status.policies.iter().map(|one| one.policy.as_str()).collect();
        let error = status.policies.iter().find_map(|one| one.error.clone());
        table.row([name, place(&spec), policies.join(", "), error.unwrap_or_default()]);
    }
    table
}

fn certificates(items: Vec<CustomHostnameResource>) -> Table<4> {
    let mut table = Table::new(["HOSTNAME", "STATUS", "TLS", "MESSAGE"]);
    for CustomHostnameResource { hostname, status, tls, errors } in items {
        table.row([hostname, status, tls, errors.join("; ")]);
    }
    table
}

/// Of which kind it is, and where.
pub(super) fn place(spec: &ProviderSpec) -> String {
    match (&spec.cloudflare, &spec.webhook) {
        (Some(cloudflare), _) if cloudflare.load_balancer => {
            format!("load balancers of {}", cloudflare.api)
        }
        (Some(cloudflare), _) => format!("records of {}", cloudflare.api),
        (None, Some(webhook)) => format!("webhook {}", webhook.url),
        (None, None) => String::new(),
    }
}
