//! An app as it is meant: every default filled in, every field checked.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    AppManifest, AppName, AppSpec, HealthSpec, Hostname, Memory, ProbeKind, Problem, Problems,
    RolloutSpec, Template, decode::decode_partly,
};

/// A valid app. Made from an [`AppManifest`] only, so that what is here has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    pub name: AppName,
    /// `<name>.<base domain>` first, then the ones that were written.
    pub hostnames: Vec<Hostname>,
    /// What a change of makes a new deployment.
    pub template: Arc<Template>,
    pub instances: u16,
    pub health: HealthCheck,
    pub sleep: Option<SleepPolicy>,
    pub timeouts: Timeouts,
    pub rollout: Rollout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub probe: Probe,
    pub interval: Duration,
    pub timeout: Duration,
    pub rise: u16,
    pub fall: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    Http { path: String },
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SleepPolicy {
    pub pause_after: Option<Duration>,
    pub stop_after: Option<Duration>,
    pub min_awake: Duration,
    pub wake_timeout: Duration,
    pub queue: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    pub connect: Duration,
    pub read: Duration,
    pub write: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    pub deadline: Duration,
    pub drain: Duration,
    pub stop_grace: Duration,
}

impl Default for Rollout {
    /// What is meant when nothing is written, or what was written is gone with its app.
    fn default() -> Self {
        Self::from(&RolloutSpec::default())
    }
}

impl From<&RolloutSpec> for Rollout {
    fn from(spec: &RolloutSpec) -> Self {
        let RolloutSpec { deadline, drain, stop_grace } = spec;
        Self { deadline: deadline.0, drain: drain.0, stop_grace: stop_grace.0 }
    }
}

/// Limits on one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU core.
    pub millicpus: Option<u32>,
    /// Bytes.
    pub memory: Option<u64>,
    pub pids: u32,
}

/// What the engine does when the app's process ends by itself.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// Whether a process that ended by itself with this exit code is started again.
    pub fn restarts(self, code: i64) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// A directory of the host, or a named volume, inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Volume {
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// A port of the container published on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    pub address: Option<IpAddr>,
    pub host: u16,
    pub container: u16,
    pub udp: bool,
}

/// The most instances of one app.
const MAX_INSTANCES: u16 = 16;
/// The most host names of one app.
const MAX_HOSTNAMES: usize = 100;
/// Room for a server's threads, and an end to a fork bomb.
const DEFAULT_PIDS: u32 = 512;
/// Below this the engine refuses to start a container.
const MIN_MEMORY: u64 = 6 << 20;
/// A shorter interval would be a load test.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

impl App {
    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Every problem of reading it and every problem of what could be read.
    pub fn read(value: Value, base_domain: &Hostname) -> Result<(AppManifest, Self), Problems> {
        let (manifest, mut problems) = decode_partly::<AppManifest>(value);
        let Some(manifest) = manifest else { return Err(problems) };
        match Self::from_manifest(&manifest, base_domain) {
            Ok(app) => problems.or_value((manifest, app)),
            Err(found) => {
                // What stands in for a field that could not be read is nobody's problem.
                let known: Vec<_> = problems.0.iter().map(|p| p.pointer.clone()).collect();
                problems.0.extend(found.0.into_iter().filter(|p| !known.contains(&p.pointer)));
                Err(problems)
            }
        }
    }

    /// Checks a manifest.
    ///
    /// # Errors
    /// Every problem of the manifest, each with the pointer of its field.
    pub fn from_manifest(manifest: &AppManifest, base_domain: &Hostname) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let spec = &manifest.spec;
        if manifest.kind != "App" {
            let message = format!("`{}` is not a known kind; the only one is `App`", manifest.kind);
            problems.push(Problem::new("/kind", "unknown_kind", message));
        }
        let name = problems.take("/name", "bad_name", manifest.name.parse::<AppName>());
        let written = hostnames(&spec.hostnames, &mut problems);
        let template = template(spec, &mut problems);
        let health = health(&spec.health, &mut problems);
        let sleep = sleep(spec, &mut problems);
        if !(1..=MAX_INSTANCES).contains(&spec.instances) {
            let message = format!("an app has 1 to {MAX_INSTANCES} instances");
            problems.push(Problem::new("/spec/instances", "out_of_range", message));
        }
        let Some(name) = name else { return Err(problems) };
        let mut hostnames = vec![Hostname::of_app(&name, base_domain)];
        for hostname in written {
            if !hostnames.contains(&hostname) {
                hostnames.push(hostname);
            }
        }
        let timeouts = Timeouts {
            connect: spec.timeouts.connect.0,
            read: spec.timeouts.read.0,
            write: spec.timeouts.write.0,
        };
        let rollout = Rollout::from(&spec.rollout);
        let (template, instances) = (Arc::new(template), spec.instances);
        problems.or_value(Self {
            name,
            hostnames,
            template,
            instances,
            health,
            sleep,
            timeouts,
            rollout,
        })
    }
}

fn hostnames(written: &[String], problems: &mut Problems) -> Vec<Hostname> {
    if written.len() > MAX_HOSTNAMES {
        let message = format!("an app has at most {MAX_HOSTNAMES} host names of its own");
        problems.push(Problem::new("/spec/hostnames", "too_many", message));
    }
    let parse = |(i, text): (usize, &String)| {
        problems.take(&format!("/spec/hostnames/{i}"), "bad_hostname", text.parse())
    };
    written.iter().enumerate().filter_map(parse).collect()
}

fn template(spec: &AppSpec, problems: &mut Problems) -> Template {
    if spec.image.is_empty() || spec.image.contains(char::is_whitespace) {
        let message = "an image is a name such as `registry.example.com/team/app:1.2`";
        problems.push(Problem::new("/spec/image", "bad_image", message));
    }
    if spec.port == 0 {
        problems.push(Problem::new("/spec/port", "out_of_range", "a port is 1 to 65535"));
    }
    for key in spec.env.keys() {
        if key.is_empty() || key.contains(['=', '\0']) {
            let message = format!("`{key}` cannot be a variable's name");
            problems.push(Problem::new("/spec/env", "bad_variable", message));
        }
    }
    let volumes = parse_each("/spec/volumes", "bad_volume", &spec.volumes, volume, problems);
    let ports = parse_each("/spec/ports", "bad_port", &spec.ports, port_mapping, problems);
    if !ports.is_empty() && spec.instances > 1 {
        let message = "a published port can belong to one instance only; set `instances: 1`";
        problems.push(Problem::new("/spec/ports", "conflict", message));
    }
    Template {
        image: spec.image.clone(),
        port: spec.port,
        command: spec.command.clone(),
        env: spec.env.clone(),
        volumes,
        ports,
        resources: resources(spec, problems),
        restart: spec.restart,
    }
}

fn resources(spec: &AppSpec, problems: &mut Problems) -> Resources {
    let written = &spec.resources;
    if written.cpus.is_some_and(|cpus| !(0.01..=1024.0).contains(&cpus)) {
        let message = "write the number of CPU cores, 0.01 or more, such as 0.5";
        problems.push(Problem::new("/spec/resources/cpus", "out_of_range", message));
    }
    if written.memory.is_some_and(|Memory(bytes)| bytes < MIN_MEMORY) {
        let message = "a container needs at least 6MiB of memory";
        problems.push(Problem::new("/spec/resources/memory", "out_of_range", message));
    }
    if written.pids == Some(0) {
        let message = "a container needs at least one process";
        problems.push(Problem::new("/spec/resources/pids", "out_of_range", message));
    }
    Resources {
        millicpus: written.cpus.map(|cpus| (cpus * 1000.0).round() as u32),
        memory: written.memory.map(|Memory(bytes)| bytes),
        pids: written.pids.unwrap_or(DEFAULT_PIDS),
    }
}

fn health(spec: &HealthSpec, problems: &mut Problems) -> HealthCheck {
    if spec.rise == 0 {
        problems.push(Problem::new("/spec/health/rise", "out_of_range", "at least 1"));
    }
    if spec.fall == 0 {
        problems.push(Problem::new("/spec/health/fall", "out_of_range", "at least 1"));
    }
    for (pointer, span) in
        [("/spec/health/interval", spec.interval), ("/spec/health/timeout", spec.timeout)]
    {
        if span.0 < MIN_INTERVAL {
            problems.push(Problem::new(pointer, "out_of_range", "at least 100ms"));
        }
    }
    let probe = match (spec.kind, &spec.path) {
        (ProbeKind::Tcp, None) => Probe::Tcp,
        (ProbeKind::Tcp, Some(_)) => {
            let message = "a path belongs to an HTTP check; add `type: http`";
            problems.push(Problem::new("/spec/health/path", "conflict", message));
            Probe::Tcp
        }
        (ProbeKind::Http, path) => {
            let path = path.clone().unwrap_or_else(|| "/".to_owned());
            let printable = path.bytes().all(|b| b.is_ascii_graphic());
            if !path.starts_with('/') || !printable {
                let message = "a path starts with `/` and has no spaces";
                problems.push(Problem::new("/spec/health/path", "bad_path", message));
            }
            Probe::Http { path }
        }
    };
    HealthCheck {
        probe,
        interval: spec.interval.0,
        timeout: spec.timeout.0,
        rise: spec.rise,
        fall: spec.fall,
    }
}

fn sleep(spec: &AppSpec, problems: &mut Problems) -> Option<SleepPolicy> {
    let written = spec.sleep.as_ref()?;
    if let (Some(pause), Some(stop)) = (written.pause_after, written.stop_after)
        && stop <= pause
    {
        let message = format!("must be longer than pause_after ({pause})");
        problems.push(Problem::new("/spec/sleep/stop_after", "conflict", message));
    }
    for (pointer, span) in [
        ("/spec/sleep/pause_after", written.pause_after),
        ("/spec/sleep/stop_after", written.stop_after),
    ] {
        if span.is_some_and(|span| span.0 < MIN_INTERVAL) {
            problems.push(Problem::new(pointer, "out_of_range", "at least 100ms"));
        }
    }
    if written.queue == 0 {
        let message = "at least 1 request must be able to wait for the wake";
        problems.push(Problem::new("/spec/sleep/queue", "out_of_range", message));
    }
    Some(SleepPolicy {
        pause_after: written.pause_after.map(|span| span.0),
        stop_after: written.stop_after.map(|span| span.0),
        min_awake: written.min_awake.0,
        wake_timeout: written.wake_timeout.0,
        queue: written.queue,
    })
}

fn parse_each<T>(
    pointer: &str,
    code: &str,
    written: &[String],
    parse: fn(&str) -> Result<T, String>,
    problems: &mut Problems,
) -> Vec<T> {
    let one =
        |(i, text): (usize, &String)| problems.take(&format!("{pointer}/{i}"), code, parse(text));
    written.iter().enumerate().filter_map(one).collect()
}

fn volume(text: &str) -> Result<Volume, String> {
    let refuse = || format!("`{text}` is not a volume; write SOURCE:/TARGET or SOURCE:/TARGET:ro");
    let mut parts = text.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else { return Err(refuse()) };
    let read_only = match (parts.next(), parts.next()) {
        (None | Some("rw"), None) => false,
        (Some("ro"), None) => true,
        _ => return Err(refuse()),
    };
    let named =
        source.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if source.is_empty() || !(source.starts_with('/') || named) || !target.starts_with('/') {
        return Err(refuse());
    }
    Ok(Volume { source: source.to_owned(), target: target.to_owned(), read_only })
}

fn port_mapping(text: &str) -> Result<PortMapping, String> {
    let refuse = || format!("`{text}` is not a port; write [ADDRESS:]HOST:CONTAINER[/udp]");
    let (ports, udp) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), false),
        Some((ports, "udp")) => (ports, true),
        Some(_) => return Err(refuse()),
    };
    let (rest, container) = ports.rsplit_once(':').ok_or_else(refuse)?;
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            (Some(address.parse().map_err(|_| refuse())?), host)
        }
        None => (None, rest),
    };
    match (host.parse(), container.parse()) {
        (Ok(host), Ok(container)) if host != 0 && container != 0 => {
            Ok(PortMapping { address, host, container, udp })
        }
        _ => Err(refuse()),
    }
}
