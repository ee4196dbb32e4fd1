//! `weir discover`: which app is where, and how it is reached.

use clap::Args;
use weir_control::api::wire::{DiscoveredApp, List, Place};

use super::{
    client::Connection,
    outcome::{Outcome, say, say_aside},
    output::Output,
    table::Table,
};

/// Say which app is on which host or device, and how it is reached.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir discover
  weir discover shop
  weir discover --host pi-7
  weir discover shop -o json | jq -r .items[].url")]
pub(crate) struct Discover {
    /// Only this app
    app: Option<String>,
    /// Only what is on this host or device
    #[arg(long)]
    host: Option<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Discover {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let mut apps: Vec<DiscoveredApp> = match &self.app {
            Some(app) => vec![client.get(&["discovery", app]).await?],
            None => client.get::<List<DiscoveredApp>>(&["discovery"]).await?.items,
        };
        if let Some(host) = &self.host {
            apps.iter_mut().for_each(|app| app.places.retain(|place| place.host == *host));
            apps.retain(|app| !app.places.is_empty());
        }
        match self.output {
            Output::Json => say(serde_json::to_string_pretty(&List::whole(apps))?)?,
            Output::Table if apps.is_empty() => say_aside("nothing is there")?,
            Output::Table => say(table(apps))?,
        }
        Ok(Outcome::Done)
    }
}

fn table(apps: Vec<DiscoveredApp>) -> Table<6> {
    let mut table = Table::new(["APP", "HOST", "STATE", "ADDRESS", "URL", "PRIVATE"]);
    for DiscoveredApp { app, phase, url, private_url, places, .. } in apps {
        let private_url = private_url.unwrap_or_default();
        if places.is_empty() {
            let phase = phase.as_str().to_owned();
            table.row([app, String::new(), phase, String::new(), url, private_url]);
            continue;
        }
        for Place { host, device, host_state, state, address, .. } in places {
            let host = if device { format!("{host} (device)") } else { host };
            let state = match host_state.as_str() {
                "ready" => state,
                away => format!("{state} (host {away})"),
            };
            let address = address.unwrap_or_default();
            table.row([app.clone(), host, state, address, url.clone(), private_url.clone()]);
        }
    }
    table
}
