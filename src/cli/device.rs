//! `weir device`: machines that are hosts by the connection that they make.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use sha2::{Digest, Sha256};
use tokio::time::sleep;
use weir_config::Span;
use weir_control::api::wire::{
    DeviceInvite, DeviceResource, DeviceState, InviteRequest, RenameRequest,
};
use weir_deploy::About;

use super::{
    change::counted,
    client::{Client, Connection},
    outcome::{Outcome, say, say_aside},
    output::{Ls, Show},
    table::Table,
};

/// Make machines in the field hosts, and say which there are.
///
/// A device needs no address: it connects to Weir, and what runs on it goes on when it is cut off.
/// An app is placed on devices by `placement: {hosts: {class: edge}}`, or on one by its name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir device invite --label site=hamburg
  weir device invite --name pi-7 --ttl 24h
  weir device ls
  weir device show pi-7
  weir device rename pi-7 kitchen
  weir device update pi-7 --file ./weir-agent
  weir device revoke pi-7

Exit codes: 0 done, 3 a device went back to its former program, 4 it is not back yet, 2 the server refuses or is not there.")]
pub(crate) struct Device {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Invite(Invite),
    /// List them
    #[command(alias = "list")]
    Ls(Ls),
    /// Say what is known of one
    Show(Show),
    /// Give one another name; nothing may run on it
    Rename {
        name: String,
        to: String,
    },
    Update(Update),
    /// Take its identity from one: it is cut off at once, and never let in again
    Revoke {
        name: String,
    },
}

/// Print the line that makes a machine a device.
///
/// It is good once. Only standard output is the line, so that it can be piped to `ssh`.
#[derive(Debug, Args)]
struct Invite {
    /// The name it is to have [default: its own]; a device of that name is replaced
    #[arg(long)]
    name: Option<String>,
    /// What apps choose it by; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How long it is good
    #[arg(long, value_name = "SPAN", value_parser = Span::parse, default_value = "1h")]
    ttl: Span,
    /// Where the device is to connect to [default: what the server says]
    #[arg(long, value_name = "HOST:PORT")]
    control: Option<String>,
}

/// Send one a newer program of its agent
///
/// Which has a minute to come back to Weir: if it does not, the device goes back to the former one.
/// What runs there is not touched.
#[derive(Debug, Args)]
struct Update {
    name: String,
    /// The program, for the device's architecture
    #[arg(long, required_unless_present = "url", conflicts_with = "url")]
    file: Option<PathBuf>,
    /// Where it is fetched from, by this command
    #[arg(long, requires = "sha256")]
    url: Option<String>,
    /// What its digest has to be, in hex
    #[arg(long)]
    sha256: Option<String>,
}

/// The device has a minute, and Docker may take its time to answer.
const UPDATE_LIMIT: Duration = Duration::from_secs(90);
/// For some ten megabytes over a slow line.
const UPLOAD_LIMIT: Duration = Duration::from_mins(10);
const POLL: Duration = Duration::from_millis(250);

impl Update {
    async fn run(self, client: &Client) -> anyhow::Result<Outcome> {
        let Self { name, file, url, sha256 } = self;
        let program = match (file, url) {
            (Some(file), _) => {
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
            }
            (None, Some(url)) => {
                let fetched = reqwest::get(&url).await?.error_for_status()?;
                fetched.bytes().await?.to_vec()
            }
            // Refused by the command line.
            (None, None) => bail!("say which program: --file or --url"),
        };
        let found: String = Sha256::digest(&program).iter().map(|b| format!("{b:02x}")).collect();
        if sha256.is_some_and(|sha256| !sha256.eq_ignore_ascii_case(&found)) {
            bail!("this is another program: its SHA-256 is {found}");
        }
        let path = ["devices", &name, "actions", "update"];
        let request =
            client.request(Method::POST, &path, &[("sha256", &found)]).timeout(UPLOAD_LIMIT);
        client.json::<DeviceResource>(request.body(program)).await?;
        say_aside(format_args!("sent; waiting for it to come back"))?;
        let began = Instant::now();
        while began.elapsed() < UPDATE_LIMIT {
            let device: DeviceResource = client.get(&["devices", &name]).await?;
            let About { program, update_failed, agent_version, .. } = device.about;
            if program.as_ref() == Some(&found) {
                say(format_args!("Device/{name}  runs weir-agent {agent_version} ({found})"))?;
                return Ok(Outcome::Done);
            }
            if let Some(why) = update_failed.filter(|why| why.contains(&found)) {
                say(format_args!("Device/{name}  went back to its former program: {why}"))?;
                return Ok(Outcome::Failed);
            }
            sleep(POLL).await;
        }
        say(format_args!("Device/{name}  has not come back yet; see: weir device show {name}"))?;
        Ok(Outcome::TimedOut)
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, as site=hamburg".to_owned()),
    }
}

impl Device {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.verb {
            Verb::Invite(invite) => invite.run(&client).await?,
            Verb::Ls(Ls { output }) => {
                let list = client.get(&["devices"]).await?;
                let nothing = "no devices; invite one by: weir device invite";
                return output.list(list, nothing, table);
            }
            Verb::Show(Show { name, output }) => {
                output.one(&client.get(&["devices", &name]).await?, words)?;
            }
            Verb::Rename { name, to } => {
                let path = ["devices", &name, "actions", "rename"];
                let request = client.request(Method::POST, &path, &[]);
                let asked = RenameRequest { to: to.clone() };
                client.json::<DeviceResource>(request.json(&asked)).await?;
                say(format_args!("Device/{name}  is {to} from now on"))?;
            }
            Verb::Update(update) => return update.run(&client).await,
            Verb::Revoke { name } => {
                let path = ["devices", &name, "actions", "revoke"];
                let device: DeviceResource = client.post(&path).await?;
                let left = counted(device.instances as usize, "instance");
                say(format_args!("Device/{name}  revoked; {left} may still run there"))?;
                say(format_args!(
                    "    forget it by: weir host drain {name}, weir delete host {name}"
                ))?;
            }
        }
        Ok(Outcome::Done)
    }
}

impl Invite {
    async fn run(self, client: &Client) -> anyhow::Result<()> {
        let Self { name, labels, ttl, control } = self;
        let labels: BTreeMap<_, _> = labels.into_iter().collect();
        let asked = InviteRequest { name, labels, ttl: Some(ttl) };
        let request = client.request(Method::POST, &["devices", "actions", "invite"], &[]);
        let invite: DeviceInvite = client.json(request.json(&asked)).await?;
        let command = match control {
            Some(control) => invite.command.replacen(&invite.control, &control, 1),
            None => invite.command,
        };
        say_aside(format_args!("run this on the device, once, before {}:", invite.expires_at))?;
        Ok(say(command)?)
    }
}

fn table(devices: Vec<DeviceResource>) -> Table<8> {
    let mut table =
        Table::new(["NAME", "STATE", "INSTANCES", "ARCH", "CPUS", "MEMORY", "SEEN", "LABELS"]);
    for device in devices {
        let DeviceResource { name, state, instances, about, labels, seen_at, .. } = device;
        table.row([
            name,
            word(state).to_owned(),
            instances.to_string(),
            about.arch,
            about.cpus.to_string(),
            size(about.memory),
            seen_at,
            written(&labels),
        ]);
    }
    table
}

fn words(device: &DeviceResource) -> anyhow::Result<()> {
    let DeviceResource { name, state, instances, labels, about, .. } = device;
    let About { os, kernel, arch, cpus, memory, disk, disk_free, .. } = about;
    let state = word(*state);
    say(format_args!("Device/{name}  {state}, {}", counted(*instances as usize, "instance")))?;
    say(format_args!("    enrolled {}, seen {}", device.enrolled_at, device.seen_at))?;
    say(format_args!("    {os}, Linux {kernel}, {arch}"))?;
    let (memory, disk, free) = (size(*memory), size(*disk), size(*disk_free));
    say(format_args!("    {cpus} CPUs, {memory} of memory, {disk} of disk ({free} free)"))?;
    if let Some(degrees) = about.temperature {
        say(format_args!("    {degrees:.0} °C"))?;
    }
    if !about.gpus.is_empty() {
        say(format_args!("    GPUs: {}", about.gpus.join(", ")))?;
    }
    let engine = about.engine_version.as_deref().unwrap_or("none that answered");
    say(format_args!("    Docker {engine}, weir-agent {}", about.agent_version))?;
    if let Some(program) = &about.program {
        say(format_args!("    updated to {program}"))?;
    }
    if let Some(why) = &about.update_failed {
        say(format_args!("    not updated: {why}"))?;
    }
    say(format_args!("    labels: {}", written(labels)))?;
    if let Some(node) = &device.tailnet_node {
        say(format_args!("    only by the tailnet node {node}"))?;
    }
    Ok(say(format_args!("    key: {}", device.fingerprint))?)
}

fn word(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Connected => "connected",
        DeviceState::Away => "away",
        DeviceState::Revoked => "revoked",
    }
}

fn written(labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

/// In gibibytes, as sizes of machines are.
fn size(bytes: u64) -> String {
    format!("{:.1}GiB", bytes as f64 / f64::from(1 << 30))
}
