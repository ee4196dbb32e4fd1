//! An app as it is meant: every default filled in, every field checked.

mod container;
mod rollout;
mod traffic;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::traffic::{balance, default_policy};
pub use self::{
    container::{PortMapping, Resources, RestartPolicy, Volume},
    rollout::{Gates, Rollout},
};
use crate::{
    AppManifest, AppName, AppSpec, Balance, FailoverName, HealthSpec, HostPath, Hostname, Member,
    Placement, ProbeKind, Problem, Problems, ShardName, Template, TrafficPolicy, Upstream,
    decode::decode_partly, shard,
};

/// A valid app. Made from an [`AppManifest`] only, so that what is here has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    pub name: AppName,
    /// `<name>.<base domain>` first, then the ones that were written, and those that lead to others.
    pub hostnames: Vec<HostPath>,
    pub source: Source,
    /// How many containers there are of an image.
    pub instances: u16,
    /// Which hosts they run on.
    pub placement: Placement,
    pub health: HealthCheck,
    pub sleep: Option<SleepPolicy>,
    /// Over its instances or upstreams; a shard has one of its own.
    pub balance: Balance,
    pub policy: Arc<TrafficPolicy>,
    pub rollout: Rollout,
}

/// What answers an app's requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Containers made from this; what a change of makes a new deployment.
    Image(Arc<Template>),
    /// Servers that something else keeps running.
    Upstreams(Vec<Member>),
    /// Members of these, by a hash of the host name among several.
    Shards(Arc<[ShardName]>),
    /// Targets of this policy, by the client's address.
    Failover(FailoverName),
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
    /// Asked for as a request would be.
    Http {
        path: String,
        upstream: Upstream,
    },
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

/// The most instances of one app.
const MAX_INSTANCES: u16 = 16;
/// The most shards that one app's load is shared by.
const MAX_SHARDS: usize = 100;
/// The most apps that one names for private calls, in each direction.
const MAX_APPS: usize = 100;
/// The most host names of one app.
const MAX_HOSTNAMES: usize = 100;
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
                problems.also(found);
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
            let message =
                format!("`{}` is not `App`; the other kinds are `Shard` and `Host`", manifest.kind);
            problems.push(Problem::new("/kind", "unknown_kind", message));
        }
        let name = problems.take("/name", "bad_name", manifest.name.parse::<AppName>());
        let written = hostnames(&spec.hostnames, &mut problems);
        let source = source(spec, &mut problems);
        let mut policy = traffic::policy(spec, &mut problems);
        let health = health("/spec/health", &spec.health, &policy.upstream, &mut problems);
        let sleep = sleep(spec, &mut problems);
        if !(1..=MAX_INSTANCES).contains(&spec.instances) {
            let message = format!("an app has 1 to {MAX_INSTANCES} instances");
            problems.push(Problem::new("/spec/instances", "out_of_range", message));
        }
        let placement = Placement::from_spec(&spec.placement, spec.instances, &mut problems);
        let balance = balance("/spec/balance", &spec.balance, &mut problems);
        let rollout = rollout::rollout(&spec.rollout, &mut problems);
        let (Some(name), Some(source)) = (name, source) else { return Err(problems) };
        let mut hostnames = vec![HostPath::from(Hostname::of_app(&name, base_domain))];
        for hostname in written {
            if !hostnames.contains(&hostname) {
                hostnames.push(hostname);
            }
        }
        policy.redirects = redirects(&spec.redirects, &hostnames, &mut problems);
        hostnames.extend(policy.redirects.keys().cloned().map(HostPath::from));
        problems.or_value(Self {
            name,
            hostnames,
            source,
            instances: spec.instances,
            placement,
            health,
            sleep,
            balance,
            policy: Arc::new(policy),
            rollout,
        })
    }
}

fn hostnames(written: &[String], problems: &mut Problems) -> Vec<HostPath> {
    if written.len() > MAX_HOSTNAMES {
        let message = format!("an app has at most {MAX_HOSTNAMES} host names of its own");
        problems.push(Problem::new("/spec/hostnames", "too_many", message));
    }
    let parse = |(i, text): (usize, &String)| {
        problems.take(&format!("/spec/hostnames/{i}"), "bad_hostname", text.parse())
    };
    written.iter().enumerate().filter_map(parse).collect()
}

/// Each from a name of its own to one of those that are served.
fn redirects(
    written: &BTreeMap<String, String>,
    served: &[HostPath],
    problems: &mut Problems,
) -> BTreeMap<Hostname, Hostname> {
    if written.len() > MAX_HOSTNAMES {
        let message = format!("an app has at most {MAX_HOSTNAMES} redirects");
        problems.push(Problem::new("/spec/redirects", "too_many", message));
    }
    let mut redirects = BTreeMap::new();
    for (from, to) in written {
        let pointer = format!("/spec/redirects/{}", from.replace('~', "~0").replace('/', "~1"));
        let from = problems.take::<Hostname>(&pointer, "bad_hostname", from.parse());
        let to = problems.take::<Hostname>(&pointer, "bad_hostname", to.parse());
        let (Some(from), Some(to)) = (from, to) else { continue };
        let is_served = |name: &Hostname| served.iter().any(|hostname| hostname.host == *name);
        if from.starts_with("*.") || to.starts_with("*.") {
            let message = "a redirect is from one host name to one other; `*` stands for many";
            problems.push(Problem::new(pointer, "bad_hostname", message));
        } else if is_served(&from) {
            let message = format!("`{from}` is a host name of this app; it is served or leads on");
            problems.push(Problem::new(pointer, "conflict", message));
        } else if !is_served(&to) {
            let message = format!("`{to}` is no host name of this app; write it in `hostnames`");
            problems.push(Problem::new(pointer, "unknown_hostname", message));
        } else {
            redirects.insert(from, to);
        }
    }
    redirects
}

/// Exactly one of four says what answers.
fn source(spec: &AppSpec, problems: &mut Problems) -> Option<Source> {
    let written = [
        ("image", spec.image.is_some()),
        ("upstreams", !spec.upstreams.is_empty()),
        ("shards", !spec.shards.is_empty()),
        ("failover", spec.failover.is_some()),
    ];
    let mut written = written.into_iter().filter(|(_, is_written)| *is_written);
    if let (Some(_), Some((second, _))) = (written.next(), written.next()) {
        let message = "`image`, `upstreams`, `shards` and `failover` exclude each other; keep one";
        problems.push(Problem::new(format!("/spec/{second}"), "conflict", message));
        return None;
    }
    if let Some(image) = &spec.image {
        return Some(Source::Image(Arc::new(container::template(image, spec, problems))));
    }
    let source = match (&spec.failover, spec.upstreams.as_slice(), spec.shards.as_slice()) {
        (Some(policy), ..) => Source::Failover(failover(spec, policy, problems)?),
        (None, [], []) => {
            let message = "write what answers: `image`, `upstreams`, `shards` or `failover`";
            problems.push(Problem::new("/spec/image", "required", message));
            return None;
        }
        (None, [], shards) => Source::Shards(self::shards(spec, shards, problems)),
        (None, upstreams, _) => Source::Upstreams(shard::upstreams(upstreams, problems)),
    };
    container::none(spec, problems);
    Some(source)
}

fn failover(spec: &AppSpec, policy: &str, problems: &mut Problems) -> Option<FailoverName> {
    if spec.balance != Default::default() {
        let message = "the failover policy says how its targets share the clients; remove this";
        problems.push(Problem::new("/spec/balance", "conflict", message));
    }
    if spec.health != Default::default() {
        let message = "the failover policy says how its targets are checked; remove this";
        problems.push(Problem::new("/spec/health", "conflict", message));
    }
    problems.take("/spec/failover", "bad_name", policy.parse())
}

fn shards(spec: &AppSpec, written: &[String], problems: &mut Problems) -> Arc<[ShardName]> {
    if spec.balance != Default::default() {
        let message = "a shard says itself how its members share the load; remove this";
        problems.push(Problem::new("/spec/balance", "conflict", message));
    }
    if spec.health != Default::default() {
        let message = "a shard says itself how its members are checked; remove this";
        problems.push(Problem::new("/spec/health", "conflict", message));
    }
    if written.len() > MAX_SHARDS {
        let message = format!("an app names at most {MAX_SHARDS} shards");
        problems.push(Problem::new("/spec/shards", "too_many", message));
        return [].into();
    }
    for (i, name) in written.iter().enumerate() {
        if written[..i].contains(name) {
            let message = format!("there is another `{name}`");
            problems.push(Problem::new(format!("/spec/shards/{i}"), "duplicate", message));
        }
    }
    let names = parse_each("/spec/shards", "bad_name", written, |text| text.parse(), problems);
    names.into()
}

pub(crate) fn health(
    base: &str,
    spec: &HealthSpec,
    upstream: &Upstream,
    problems: &mut Problems,
) -> HealthCheck {
    for (field, count) in [("rise", spec.rise), ("fall", spec.fall)] {
        if count == 0 {
            let pointer = format!("{base}/{field}");
            problems.push(Problem::new(pointer, "out_of_range", "at least 1"));
        }
    }
    for (field, span) in [("interval", spec.interval), ("timeout", spec.timeout)] {
        if span.0 < MIN_INTERVAL {
            let pointer = format!("{base}/{field}");
            problems.push(Problem::new(pointer, "out_of_range", "at least 100ms"));
        }
    }
    let probe = match (spec.kind, &spec.path) {
        (ProbeKind::Tcp, None) => Probe::Tcp,
        (ProbeKind::Tcp, Some(_)) => {
            let message = "a path belongs to an HTTP check; add `type: http`";
            problems.push(Problem::new(format!("{base}/path"), "conflict", message));
            Probe::Tcp
        }
        (ProbeKind::Http, path) => {
            let path = path.clone().unwrap_or_else(|| "/".to_owned());
            let printable = path.bytes().all(|b| b.is_ascii_graphic());
            if !path.starts_with('/') || !printable {
                let message = "a path starts with `/` and has no spaces";
                problems.push(Problem::new(format!("{base}/path"), "bad_path", message));
            }
            Probe::Http { path, upstream: upstream.clone() }
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
    if spec.image.is_none() {
        let message = "only an app with an `image` can sleep; remove this";
        problems.push(Problem::new("/spec/sleep", "conflict", message));
    }
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

/// Other apps, by name.
pub(crate) fn app_names(
    pointer: &str,
    written: &[String],
    problems: &mut Problems,
) -> Vec<AppName> {
    if written.len() > MAX_APPS {
        let message = format!("at most {MAX_APPS} apps");
        problems.push(Problem::new(pointer, "too_many", message));
    }
    parse_each(pointer, "bad_name", written, str::parse, problems)
}

/// Reads each element of a list, and tells of those that cannot be read.
pub(crate) fn parse_each<T>(
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
