//! The part of an app that containers are made from.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{app_names, parse_each};
use crate::{AppName, AppSpec, Memory, Problem, Problems, Template};

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

/// Room for a server's threads, and an end to a fork bomb.
const DEFAULT_PIDS: u32 = 512;
/// Below this the engine refuses to start a container.
const MIN_MEMORY: u64 = 6 << 20;

/// What containers are made from, if the app is an image.
pub(super) fn template(image: &str, spec: &AppSpec, problems: &mut Problems) -> Template {
    if image.is_empty() || image.contains(char::is_whitespace) {
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
        image: image.to_owned(),
        port: spec.port,
        command: spec.command.clone(),
        env: spec.env.clone(),
        // They are not written in a spec: whoever keeps them fills them in.
        secrets: BTreeMap::new(),
        volumes,
        ports,
        resources: resources(spec, problems),
        restart: spec.restart,
        calls: calls(spec, problems),
    }
}

/// An app that is no image says nothing of containers.
pub(super) fn none(spec: &AppSpec, problems: &mut Problems) {
    let written = [
        ("command", !spec.command.is_empty()),
        ("env", !spec.env.is_empty()),
        ("volumes", !spec.volumes.is_empty()),
        ("ports", !spec.ports.is_empty()),
        ("resources", spec.resources != Default::default()),
        ("placement", spec.placement != Default::default()),
        ("private/calls", !spec.private.calls.is_empty()),
    ];
    for (field, _) in written.into_iter().filter(|(_, is_written)| *is_written) {
        let message = format!("`{field}` belongs to an app with an `image`; remove it");
        problems.push(Problem::new(format!("/spec/{field}"), "conflict", message));
    }
}

/// The apps that are called by their private names.
fn calls(spec: &AppSpec, problems: &mut Problems) -> Vec<AppName> {
    let pointer = "/spec/private/calls";
    let calls = app_names(pointer, &spec.private.calls, problems);
    if !calls.is_empty() && !spec.placement.asks_for_devices() {
        let message = "apps on devices call others by private names: place this one on devices, \
                       as `placement: {hosts: {class: edge}}`, or call them by their URLs";
        problems.push(Problem::new(pointer, "conflict", message));
    }
    calls
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
