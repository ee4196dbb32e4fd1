//! Hosts as they are meant: machines with a container engine, and which of them an app may run on.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{
    EngineTlsSpec, HostManifest, HostName, HostSpec, Memory, PlacementSpec, Problem, Problems,
    ShardName, decode::decode_partly, hash::stable_hash,
};

/// A valid host.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    pub name: HostName,
    pub engine: Engine,
    /// Where the published ports of its instances are reached. `None` of the machine that Weir runs
    /// on, and of devices: there, containers are reached at their own addresses.
    pub address: Option<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub region: Option<String>,
    /// Where end users reach its region.
    pub public_addresses: Vec<IpAddr>,
    pub capacity: Capacity,
    /// Keeps what it has and gets nothing new.
    pub cordoned: bool,
    /// Gets nothing new, and what it has moves away.
    pub draining: bool,
    pub disconnect: Disconnect,
}

/// How a host's engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// As the server's settings say.
    Local,
    Unix(PathBuf),
    Tcp {
        /// `HOST:PORT`.
        authority: String,
        /// `None` only where an operator allowed it.
        tls: Option<EngineTlsSpec>,
    },
    Ssh(Ssh),
    /// By the connection that the agent on it makes to us.
    Device,
}

/// A login by SSH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    pub user: String,
    pub host: String,
    pub port: u16,
    pub identity_file: Option<PathBuf>,
    pub known_hosts_file: Option<PathBuf>,
}

/// How much may be placed on a host; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    pub instances: Option<u32>,
    /// Thousandths of a core.
    pub millicpus: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
}

/// What happens when a host does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Silent for this long, it is disconnected.
    pub after: Duration,
    /// Silent for this long, it is lost.
    pub lost_after: Duration,
    /// Whether what a lost host had is started elsewhere.
    pub replace: bool,
}

/// Which hosts an app's instances may run on: those of which all of this holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    pub labels: BTreeMap<String, String>,
    pub region: Option<String>,
    /// In so many regions at least, as long as there are so many.
    pub regions: u16,
    pub shard: Option<ShardName>,
}

/// As short as a host's silence can be noticed without asking it all the time.
const LEAST_SILENCE: Duration = Duration::from_secs(1);
const MAX_LABELS: usize = 100;

impl Host {
    /// The machine that Weir runs on, as it is when nobody says otherwise.
    pub fn local() -> Self {
        let spec = HostSpec::default();
        Self {
            name: HostName::local(),
            engine: Engine::Local,
            address: None,
            labels: BTreeMap::new(),
            region: None,
            public_addresses: Vec::new(),
            capacity: Capacity::default(),
            cordoned: false,
            draining: false,
            disconnect: Disconnect {
                after: spec.disconnect.after.0,
                lost_after: spec.disconnect.lost_after.0,
                replace: spec.disconnect.replace,
            },
        }
    }

    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Every problem of reading it and every problem of what could be read.
    pub fn read(value: Value) -> Result<(HostManifest, Self), Problems> {
        let (manifest, mut problems) = decode_partly::<HostManifest>(value);
        let Some(manifest) = manifest else { return Err(problems) };
        match Self::from_manifest(&manifest) {
            Ok(host) => problems.or_value((manifest, host)),
            Err(found) => {
                problems.also(found);
                Err(problems)
            }
        }
    }

    /// Checks a manifest.
    ///
    /// # Errors
    /// Every problem of the manifest, each with the pointer of its field.
    pub fn from_manifest(manifest: &HostManifest) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let spec = &manifest.spec;
        if manifest.kind != "Host" {
            let message = format!("`{}` is not `Host`", manifest.kind);
            problems.push(Problem::new("/kind", "unknown_kind", message));
        }
        let name = problems.take("/name", "bad_name", manifest.name.parse::<HostName>());
        let is_local = name.as_ref().is_some_and(HostName::is_local);
        let engine = engine(spec, is_local, &mut problems);
        let address = address(spec, engine.as_ref(), &mut problems);
        if spec.labels.len() > MAX_LABELS {
            let message = format!("a host has at most {MAX_LABELS} labels");
            problems.push(Problem::new("/spec/labels", "too_many", message));
        }
        let public_addresses = public_addresses(spec, &mut problems);
        let capacity = capacity(spec, &mut problems);
        let disconnect = disconnect(spec, &mut problems);
        let (Some(name), Some(engine)) = (name, engine) else { return Err(problems) };
        problems.or_value(Self {
            name,
            engine,
            address,
            labels: spec.labels.clone(),
            region: spec.region.clone(),
            public_addresses,
            capacity,
            cordoned: spec.cordoned,
            draining: spec.draining,
            disconnect,
        })
    }

    /// Whether it takes new instances, as far as its operator is concerned.
    pub fn is_open(&self) -> bool {
        !self.cordoned && !self.draining
    }

    /// How much this host is the one for a key, beside other hosts: of two hosts, each is the dearer
    /// one for half of all keys, whatever other hosts there are (rendezvous hashing; Thaler and
    /// Ravishankar, 1998).
    pub fn score(&self, key: &str) -> u64 {
        stable_hash(&[key.as_bytes(), self.name.as_bytes()])
    }
}

impl Disconnect {
    /// How often a host is asked whether it is there; it is suspected when an answer takes twice as
    /// long.
    pub fn interval(&self) -> Duration {
        self.after / 6
    }
}

impl Placement {
    pub(crate) fn from_spec(spec: &PlacementSpec, instances: u16, problems: &mut Problems) -> Self {
        let parse = |name: &String| {
            problems.take("/spec/placement/shard", "bad_name", name.parse::<ShardName>())
        };
        let shard = spec.shard.as_ref().and_then(parse);
        let regions = spec.regions.unwrap_or(1);
        let pointer = "/spec/placement/regions";
        if regions > 1 && spec.region.is_some() {
            let message = "`region` names the only one; write one of the two";
            problems.push(Problem::new(pointer, "conflict", message));
        }
        if !(1..=instances.max(1)).contains(&regions) {
            let message = "write 1 to as many as there are `instances`";
            problems.push(Problem::new(pointer, "out_of_range", message));
        }
        Self { labels: spec.hosts.clone(), region: spec.region.clone(), regions, shard }
    }

    /// Whether a host is one of those, but for the shard.
    pub fn takes(&self, host: &Host) -> bool {
        has_labels(host, &self.labels)
            && (host.engine != Engine::Device || self.asks_for_devices())
            && self.region.as_ref().is_none_or(|region| host.region.as_ref() == Some(region))
    }

    fn asks_for_devices(&self) -> bool {
        means_devices(&self.labels, self.shard.is_some())
    }
}

impl PlacementSpec {
    pub(crate) fn asks_for_devices(&self) -> bool {
        means_devices(&self.hosts, self.shard.is_some())
    }
}

/// A device is somewhere in particular, and gets nothing by chance.
fn means_devices(labels: &BTreeMap<String, String>, names_shard: bool) -> bool {
    names_shard || labels.contains_key(CLASS_LABEL) || labels.contains_key(DEVICE_LABEL)
}

/// The label of hosts that says which kind they are: of devices it is `edge`.
pub const CLASS_LABEL: &str = "class";
/// The label that each device has with its own name.
pub const DEVICE_LABEL: &str = "device";

/// Whether a host has all these labels.
pub fn has_labels(host: &Host, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(key, value)| host.labels.get(key) == Some(value))
}

/// A region's are at most as many as a target's.
fn public_addresses(spec: &HostSpec, problems: &mut Problems) -> Vec<IpAddr> {
    if !spec.public_addresses.is_empty() && spec.region.is_none() {
        let message = "they are those of a `region`; write that as well";
        problems.push(Problem::new("/spec/public_addresses", "conflict", message));
    }
    let mut address = |(i, text): (usize, &String)| {
        let wrong = |_| format!("`{text}` is not an address; write it as 192.0.2.1");
        let address = text.parse::<IpAddr>().map_err(wrong);
        problems.take(&format!("/spec/public_addresses/{i}"), "bad_address", address)
    };
    spec.public_addresses.iter().enumerate().filter_map(&mut address).collect()
}

fn engine(spec: &HostSpec, is_local: bool, problems: &mut Problems) -> Option<Engine> {
    let misplaced = |field: &str, scheme: &str, problems: &mut Problems| {
        let message = format!("`{field}` goes with an engine at `{scheme}`; remove it");
        problems.push(Problem::new(format!("/spec/{field}"), "conflict", message));
    };
    let url = match (&spec.engine, is_local) {
        (None, true) => {
            for field in [spec.tls.as_ref().map(|_| "tls"), spec.ssh.as_ref().map(|_| "ssh")] {
                field.into_iter().for_each(|field| misplaced(field, "another host", problems));
            }
            return Some(Engine::Local);
        }
        (Some(_), true) => {
            let message = "the engine of the host `local` is named by the server's setting \
                `docker`; remove this";
            problems.push(Problem::new("/spec/engine", "conflict", message));
            return None;
        }
        (None, false) => {
            let message = "write where the engine is: unix:///PATH, tcp://ADDRESS:PORT or \
                ssh://USER@ADDRESS";
            problems.push(Problem::new("/spec/engine", "required", message));
            return None;
        }
        (Some(url), false) => url.as_str(),
    };
    let parsed = parse_engine(url, spec);
    if !matches!(parsed, Ok(Engine::Tcp { .. })) && spec.tls.is_some() {
        misplaced("tls", "tcp://", problems);
    }
    if !matches!(parsed, Ok(Engine::Ssh(_))) && spec.ssh.is_some() {
        misplaced("ssh", "ssh://", problems);
    }
    let engine = problems.take("/spec/engine", "bad_engine", parsed)?;
    if let Engine::Tcp { authority, tls: None } = &engine
        && !spec.insecure
        && !ip_of(authority).is_some_and(|ip| ip.is_loopback())
    {
        let message = "whoever reaches an engine without TLS is root on its host: write `tls`, or \
            `insecure: true` if nobody else can reach it";
        problems.push(Problem::new("/spec/tls", "required", message));
    }
    Some(engine)
}

fn parse_engine(url: &str, spec: &HostSpec) -> Result<Engine, String> {
    let refuse = || {
        Err(format!(
            "`{url}` is not an engine; write unix:///PATH, tcp://ADDRESS:PORT or \
             ssh://USER@ADDRESS[:PORT]"
        ))
    };
    if url == HostSpec::DEVICE {
        return Ok(Engine::Device);
    }
    let Some((scheme, rest)) = url.split_once("://") else { return refuse() };
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Engine::Unix(rest.into())),
        "tcp" => match split_port(rest) {
            Some((host, Some(port))) if is_host(host) => {
                let host = host.to_owned();
                let authority = if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                };
                Ok(Engine::Tcp { authority, tls: spec.tls.clone() })
            }
            _ => refuse(),
        },
        "ssh" => {
            let Some((user, rest)) = rest.split_once('@') else { return refuse() };
            match split_port(rest) {
                // They become arguments of `ssh`, where a dash would make an option of them.
                Some((host, port)) if is_user(user) && is_host(host) => {
                    let ssh = spec.ssh.clone().unwrap_or_default();
                    Ok(Engine::Ssh(Ssh {
                        user: user.to_owned(),
                        host: host.to_owned(),
                        port: port.unwrap_or(22),
                        identity_file: ssh.identity_file,
                        known_hosts_file: ssh.known_hosts_file,
                    }))
                }
                _ => refuse(),
            }
        }
        _ => refuse(),
    }
}

/// A host and its port: `a`, `a:1`, `[::1]:1`.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => port.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((text, None)),
    }
}

fn is_host(text: &str) -> bool {
    let is_name = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    text.parse::<IpAddr>().is_ok() || (is_name && !text.is_empty() && !text.starts_with('-'))
}

fn is_user(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_word)
}

fn ip_of(authority: &str) -> Option<IpAddr> {
    split_port(authority)?.0.parse().ok()
}

fn address(spec: &HostSpec, engine: Option<&Engine>, problems: &mut Problems) -> Option<IpAddr> {
    if let Some(written) = &spec.address {
        if matches!(engine, Some(Engine::Local | Engine::Device)) {
            let message = "its containers are reached directly; remove this";
            problems.push(Problem::new("/spec/address", "conflict", message));
            return None;
        }
        let parsed = written.parse().map_err(|_| {
            format!("`{written}` is not an IP address; write the host's own, as 10.0.0.2")
        });
        return problems.take("/spec/address", "bad_address", parsed);
    }
    let (host, address) = match engine? {
        Engine::Local | Engine::Device => return None,
        // On the same machine.
        Engine::Unix(_) => return Some(IpAddr::from([127, 0, 0, 1])),
        Engine::Tcp { authority, .. } => (authority.as_str(), ip_of(authority)),
        Engine::Ssh(ssh) => (ssh.host.as_str(), ssh.host.parse().ok()),
    };
    if address.is_none() {
        let message = format!(
            "`{host}` is a name: write the IP address of the host at which its instances are reached"
        );
        problems.push(Problem::new("/spec/address", "required", message));
    }
    address
}

fn capacity(spec: &HostSpec, problems: &mut Problems) -> Capacity {
    let written = &spec.capacity;
    if written.cpus.is_some_and(|cpus| !(0.01..=100_000.0).contains(&cpus)) {
        let message = "write the number of CPU cores, 0.01 or more";
        problems.push(Problem::new("/spec/capacity/cpus", "out_of_range", message));
    }
    Capacity {
        instances: written.instances,
        millicpus: written.cpus.map(|cpus| (cpus * 1000.0).round() as u64),
        memory: written.memory.map(|Memory(bytes)| bytes),
    }
}

fn disconnect(spec: &HostSpec, problems: &mut Problems) -> Disconnect {
    let written = &spec.disconnect;
    if written.after.0 < LEAST_SILENCE {
        let message = "at least 1s";
        problems.push(Problem::new("/spec/disconnect/after", "out_of_range", message));
    }
    if written.lost_after < written.after {
        let message = "a host is lost after it is disconnected: write at least `after`";
        problems.push(Problem::new("/spec/disconnect/lost_after", "out_of_range", message));
    }
    Disconnect {
        after: written.after.0,
        lost_after: written.lost_after.0,
        replace: written.replace,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host(name: &str, spec: &Value) -> Result<Host, Vec<String>> {
        let read = Host::read(json!({"kind": "Host", "name": name, "spec": spec}));
        let pointers = |problems: Problems| problems.0.into_iter().map(|p| p.pointer).collect();
        read.map(|(_, host)| host).map_err(pointers)
    }

    #[test]
    fn an_engine_is_named_by_a_url() {
        let address = |host: Host| host.address.map(|address| address.to_string());
        let unix = host("b", &json!({"engine": "unix:///run/b.sock"})).unwrap();
        assert_eq!(unix.engine, Engine::Unix("/run/b.sock".into()));
        assert_eq!(address(unix), Some("127.0.0.1".to_owned()));

        let tls = json!({"ca_file": "/ca", "cert_file": "/c", "key_file": "/k"});
        let tcp = host("b", &json!({"engine": "tcp://[fd00::2]:2376", "tls": tls})).unwrap();
        assert!(matches!(&tcp.engine, Engine::Tcp { authority, tls: Some(_) }
            if authority == "[fd00::2]:2376"));
        assert_eq!(address(tcp), Some("fd00::2".to_owned()));

        let spec = json!({"engine": "ssh://deploy@b.example:2222", "address": "10.0.0.2"});
        let ssh = host("b", &spec).unwrap();
        assert!(matches!(&ssh.engine, Engine::Ssh(Ssh { user, host, port: 2222, .. })
            if user == "deploy" && host == "b.example"));
        assert_eq!(address(ssh), Some("10.0.0.2".to_owned()));
        assert_eq!(host("local", &json!({"cordoned": true})).unwrap().engine, Engine::Local);
    }

    #[test]
    fn a_device_gets_only_what_asks_for_devices() {
        let labels = json!({"class": "edge", "device": "pi", "site": "here"});
        let device = host("pi", &json!({"engine": "device", "labels": labels})).unwrap();
        assert_eq!((device.engine.clone(), device.address), (Engine::Device, None));
        let asks = |hosts: &Value, shard: Option<&str>| {
            let labels = serde_json::from_value(hosts.clone()).unwrap();
            let shard = shard.map(|shard| shard.parse().unwrap());
            Placement { labels, shard, ..Placement::default() }.takes(&device)
        };
        for (hosts, takes) in [
            (json!({}), false),
            (json!({"site": "here"}), false),
            (json!({"class": "edge"}), true),
            (json!({"device": "pi"}), true),
            (json!({"device": "other"}), false),
            (json!({"class": "edge", "site": "there"}), false),
        ] {
            assert_eq!(asks(&hosts, None), takes, "{hosts}");
        }
        assert!(asks(&json!({}), Some("field")), "a shard says which hosts it is");
        let addressed = json!({"engine": "device", "address": "10.0.0.2"});
        assert_eq!(host("pi", &addressed), Err(vec!["/spec/address".to_owned()]));
    }

    #[test]
    fn what_cannot_be_an_engine_or_is_open_to_all_is_refused() {
        for (spec, pointer) in [
            (json!({}), "/spec/engine"),
            (json!({"engine": "/run/docker.sock"}), "/spec/engine"),
            (json!({"engine": "tcp://10.0.0.2"}), "/spec/engine"),
            (json!({"engine": "ssh://-oProxyCommand=x@b"}), "/spec/engine"),
            (
                json!({"engine": "ssh://root@-oProxyCommand=x", "address": "10.0.0.2"}),
                "/spec/engine",
            ),
            (json!({"engine": "tcp://10.0.0.2:2375"}), "/spec/tls"),
            (json!({"engine": "ssh://root@b.example"}), "/spec/address"),
            (json!({"engine": "unix:///x", "ssh": {}}), "/spec/ssh"),
            (
                json!({"engine": "unix:///x", "disconnect": {"after": "2m"}}),
                "/spec/disconnect/lost_after",
            ),
        ] {
            assert_eq!(host("b", &spec), Err(vec![pointer.to_owned()]), "{spec}");
        }
        assert!(host("b", &json!({"engine": "tcp://127.0.0.1:2375"})).is_ok());
        assert!(host("b", &json!({"engine": "tcp://10.0.0.2:2375", "insecure": true})).is_ok());
        let local = host("local", &json!({"engine": "unix:///x"}));
        assert_eq!(local, Err(vec!["/spec/engine".to_owned()]));
    }
}
