//! Failover policies as they are meant.

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{DegradedLimits, FailoverLaw, Gate, MAX_TARGETS, TargetLaw, Ttl};
use crate::{
    AppName, FailoverManifest, FailoverName, FailoverSpec, Host, Hostname, IncidentActionSpec,
    NotifierName, Problem, Problems, ProviderName, ShiftBackSpec, TargetName, TargetSpec,
    decode::decode_partly,
};

/// A valid policy.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverPolicy {
    pub name: FailoverName,
    /// At least one.
    pub hostnames: Vec<Hostname>,
    pub mode: FailoverMode,
    /// In the order of the law's.
    pub targets: Vec<FailoverTarget>,
    pub law: FailoverLaw,
    /// Who answers for the names in zones that are hosted elsewhere.
    pub provider: Option<ProviderName>,
}

/// What becomes of decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailoverMode {
    /// They are carried out.
    #[default]
    Auto,
    /// They are told, and nothing else.
    Advise,
    /// There are none.
    Off,
}

/// One that can serve the names.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverTarget {
    pub name: TargetName,
    pub place: TargetPlace,
    /// The region of which the addresses are those of hosts.
    pub region: Option<String>,
    pub check: TargetCheck,
}

/// Where clients are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TargetPlace {
    /// To the host name that a CDN gave for it.
    Cdn(Hostname),
    /// To these addresses; at least one, but of a region that has none.
    Addresses(Vec<IpAddr>),
    /// To Weir's own proxies.
    Own,
}

/// What a target is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetCheck {
    pub path: String,
    pub port: u16,
    pub tls: bool,
}

const MAX_NAMES: usize = 100;
const MAX_ADDRESSES: usize = 16;
const MAX_STEPS: usize = 10;
const MAX_ACTIONS: usize = 10;
const WEIGHTS: RangeInclusive<u16> = 1..=1000;
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(24 * 60 * 60);

impl FailoverPolicy {
    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Every problem of reading it and every problem of what could be read.
    pub fn read(value: Value) -> Result<(FailoverManifest, Self), Problems> {
        let (manifest, mut problems) = decode_partly::<FailoverManifest>(value);
        let Some(manifest) = manifest else { return Err(problems) };
        match Self::from_manifest(&manifest) {
            Ok(policy) => problems.or_value((manifest, policy)),
            Err(found) => {
                problems.also(found);
                Err(problems)
            }
        }
    }

    /// With the addresses that its regions have by these hosts.
    #[must_use]
    pub fn located(&self, hosts: &[&Host]) -> Self {
        let mut located = self.clone();
        for target in &mut located.targets {
            let Some(region) = &target.region else { continue };
            let of_region = hosts.iter().filter(|host| host.region.as_ref() == Some(region));
            let open = of_region.filter(|host| !host.draining);
            let addresses: BTreeSet<_> =
                open.flat_map(|host| host.public_addresses.iter().copied()).collect();
            let addresses = addresses.into_iter().take(MAX_ADDRESSES).collect();
            target.place = TargetPlace::Addresses(addresses);
        }
        located
    }

    /// Checks a manifest.
    ///
    /// # Errors
    /// Every problem of the manifest, each with the pointer of its field.
    pub fn from_manifest(manifest: &FailoverManifest) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let spec = &manifest.spec;
        if manifest.kind != "FailoverPolicy" {
            let message = format!("`{}` is not `FailoverPolicy`", manifest.kind);
            problems.push(Problem::new("/kind", "unknown_kind", message));
        }
        let name = problems.take("/name", "bad_name", manifest.name.parse::<FailoverName>());
        let hostnames = hostnames(&spec.hostnames, &mut problems);
        let targets = targets(&spec.targets, &mut problems);
        let law = law(spec, &mut problems);
        let provider = provider(spec, &mut problems);
        actions(&spec.on_incident, &mut problems);
        let Some(name) = name else { return Err(problems) };
        problems.or_value(Self { name, hostnames, mode: spec.mode, targets, law, provider })
    }
}

fn hostnames(written: &[String], problems: &mut Problems) -> Vec<Hostname> {
    if !(1..=MAX_NAMES).contains(&written.len()) {
        let message = format!("write 1 to {MAX_NAMES} of them");
        problems.push(Problem::new("/spec/hostnames", "out_of_range", message));
    }
    let mut names = Vec::with_capacity(written.len());
    for (i, name) in written.iter().enumerate() {
        let pointer = format!("/spec/hostnames/{i}");
        let Some(name) = problems.take(&pointer, "bad_hostname", name.parse()) else { continue };
        if names.contains(&name) {
            problems.push(Problem::new(pointer, "duplicate", format!("there is another `{name}`")));
        }
        names.push(name);
    }
    names
}

fn targets(written: &[TargetSpec], problems: &mut Problems) -> Vec<FailoverTarget> {
    if !(1..=MAX_TARGETS).contains(&written.len()) {
        let message = format!("write 1 to {MAX_TARGETS} of them");
        problems.push(Problem::new("/spec/targets", "out_of_range", message));
    }
    let mut targets: Vec<FailoverTarget> = Vec::with_capacity(written.len());
    for (i, spec) in written.iter().enumerate() {
        let base = format!("/spec/targets/{i}");
        let Some(target) = target(&base, spec, problems) else { continue };
        if targets.iter().any(|other| other.name == target.name) {
            let message = format!("there is another `{}`", target.name);
            problems.push(Problem::new(format!("{base}/name"), "duplicate", message));
        }
        targets.push(target);
    }
    targets
}

fn target(base: &str, spec: &TargetSpec, problems: &mut Problems) -> Option<FailoverTarget> {
    if !WEIGHTS.contains(&spec.weight) {
        let message = format!("a weight is {} to {}", WEIGHTS.start(), WEIGHTS.end());
        problems.push(Problem::new(format!("{base}/weight"), "out_of_range", message));
    }
    if spec.capacity == Some(0) {
        let message = "a target that can take nothing is none; leave it out";
        problems.push(Problem::new(format!("{base}/capacity"), "out_of_range", message));
    }
    let check = &spec.check;
    if !check.path.starts_with('/') || !check.path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "a path starts with `/` and has no spaces";
        problems.push(Problem::new(format!("{base}/check/path"), "bad_path", message));
    }
    if check.port == 0 {
        let message = "a port is 1 to 65535";
        problems.push(Problem::new(format!("{base}/check/port"), "out_of_range", message));
    }
    let name = problems.take(&format!("{base}/name"), "bad_name", spec.name.parse());
    let place = place(base, spec, problems);
    let check = TargetCheck { path: check.path.clone(), port: check.port, tls: check.tls };
    let region = spec.region.clone();
    Some(FailoverTarget { name: name?, place: place?, region, check })
}

fn place(base: &str, spec: &TargetSpec, problems: &mut Problems) -> Option<TargetPlace> {
    match (&spec.cdn, spec.addresses.as_slice(), &spec.region, spec.own) {
        (Some(name), [], None, false) => {
            let name = problems.take(&format!("{base}/cdn"), "bad_hostname", name.parse());
            name.map(TargetPlace::Cdn)
        }
        (None, [], None, true) => Some(TargetPlace::Own),
        // The hosts say which; see [`FailoverPolicy::located`].
        (None, [], Some(_), false) => Some(TargetPlace::Addresses(Vec::new())),
        (None, written @ [_, ..], None, false) if written.len() <= MAX_ADDRESSES => {
            let mut address = |(i, text): (usize, &String)| {
                let wrong = |_| format!("`{text}` is not an address; write it as 192.0.2.1");
                let address = text.parse::<IpAddr>().map_err(wrong);
                problems.take(&format!("{base}/addresses/{i}"), "bad_address", address)
            };
            let addresses: Vec<_> = written.iter().enumerate().filter_map(&mut address).collect();
            Some(TargetPlace::Addresses(addresses))
        }
        _ => {
            let message = format!(
                "write one of `cdn: NAME`, `addresses: [IP]` (at most {MAX_ADDRESSES}), \
                 `region: NAME` and `own: true`"
            );
            problems.push(Problem::new(base, "conflict", message));
            None
        }
    }
}

/// What is done is only asked for when a failover begins; by then it has to be clear.
fn actions(written: &[IncidentActionSpec], problems: &mut Problems) {
    if written.len() > MAX_ACTIONS {
        let message = format!("write at most {MAX_ACTIONS} of them");
        problems.push(Problem::new("/spec/on_incident", "out_of_range", message));
    }
    for (i, action) in written.iter().enumerate() {
        let base = format!("/spec/on_incident/{i}");
        let mut app = |pointer: String, name: &str| {
            problems.take(&pointer, "bad_name", name.parse::<AppName>());
        };
        match action {
            IncidentActionSpec::Page(names) if names.is_empty() => {
                let message = "name the notifiers that are told";
                problems.push(Problem::new(format!("{base}/page"), "required", message));
            }
            IncidentActionSpec::Page(names) => {
                for (j, name) in names.iter().enumerate() {
                    let pointer = format!("{base}/page/{j}");
                    problems.take(&pointer, "bad_name", name.parse::<NotifierName>());
                }
            }
            IncidentActionSpec::Scale { app: name, instances } => {
                app(format!("{base}/scale/app"), name);
                if *instances == 0 {
                    let message = "write how many instances it gets at least";
                    let pointer = format!("{base}/scale/instances");
                    problems.push(Problem::new(pointer, "out_of_range", message));
                }
            }
            IncidentActionSpec::RollBack(name) => app(format!("{base}/roll_back"), name),
        }
    }
}

/// Who answers elsewhere; for that, each target has to have an address.
fn provider(spec: &FailoverSpec, problems: &mut Problems) -> Option<ProviderName> {
    let provider = spec.provider.as_ref()?;
    if let Some(own) = spec.targets.iter().position(|target| target.own) {
        let message = "beside a `provider`, write the `addresses` of Weir's own proxies: they are \
                       what it is told";
        problems.push(Problem::new(format!("/spec/targets/{own}/own"), "conflict", message));
    }
    problems.take("/spec/provider", "bad_name", provider.parse())
}

fn law(spec: &FailoverSpec, problems: &mut Problems) -> FailoverLaw {
    let ShiftBackSpec { steps, step_for, requests, error_rate, latency } = &spec.shift_back;
    let grow = steps.windows(2).all(|pair| pair[0] < pair[1]);
    if !grow || steps.len() > MAX_STEPS || !steps.iter().all(|step| (1..=99).contains(step)) {
        let message = format!("write at most {MAX_STEPS} growing percentages from 1 to 99");
        problems.push(Problem::new("/spec/shift_back/steps", "out_of_range", message));
    }
    for (pointer, rate) in [
        ("/spec/shift_back/error_rate", *error_rate),
        ("/spec/degraded/error_rate", spec.degraded.error_rate),
    ] {
        if !(0.0..=1.0).contains(&rate) {
            let message = "a part from 0 to 1, such as 0.05 for one answer in twenty";
            problems.push(Problem::new(pointer, "out_of_range", message));
        }
    }
    if !(1.0..=100.0).contains(latency) {
        let message = "how many times as slow it may be, from 1 to 100";
        problems.push(Problem::new("/spec/shift_back/latency", "out_of_range", message));
    }
    let ttl = Ttl { steady: spec.ttl.steady.0, low: spec.ttl.low.0 };
    let allowed = SHORTEST_TTL..=LONGEST_TTL;
    if !allowed.contains(&ttl.low) || !allowed.contains(&ttl.steady) || ttl.low > ttl.steady {
        let message = "write 1s to 24h, and a low one that is no longer than the steady one";
        problems.push(Problem::new("/spec/ttl", "out_of_range", message));
    }
    let target = |spec: &TargetSpec| TargetLaw { weight: spec.weight, capacity: spec.capacity };
    FailoverLaw {
        targets: spec.targets.iter().map(target).collect(),
        sharing: spec.sharing,
        degraded: DegradedLimits {
            error_rate: spec.degraded.error_rate,
            latency: spec.degraded.latency.0,
        },
        hold_down: spec.hold_down.0,
        steps: steps.clone(),
        step_for: step_for.0,
        gate: Gate { requests: *requests, error_rate: *error_rate, latency: *latency },
        all_down: spec.all_down,
        ttl,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str) -> Result<FailoverPolicy, Vec<(String, String)>> {
        let text = format!("{{kind: FailoverPolicy, name: shop, spec: {spec}}}");
        let value = crate::parse_documents(&text).unwrap()[0].value.clone();
        let place = |problem: Problem| (problem.pointer, problem.code);
        let problems = |problems: Problems| problems.0.into_iter().map(place).collect();
        FailoverPolicy::read(value).map(|(_, policy)| policy).map_err(problems)
    }

    #[test]
    fn what_is_left_out_is_the_law_s_default() {
        let policy = read(
            "{hostnames: [shop.example], targets: [{name: a, cdn: shop.a.example},
              {name: b, addresses: [192.0.2.1, '2001:db8::1'], check: {path: /up, tls: false, port: 80}},
              {name: own, own: true}]}",
        )
        .unwrap();
        assert_eq!(policy.law, FailoverLaw::ordered(3));
        assert_eq!(policy.mode, FailoverMode::Auto);
        let places: Vec<_> = policy.targets.iter().map(|target| &target.place).collect();
        let region = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        let expected = [
            &TargetPlace::Cdn("shop.a.example".parse().unwrap()),
            &TargetPlace::Addresses(region.to_vec()),
            &TargetPlace::Own,
        ];
        assert_eq!(places, expected);
        let check = TargetCheck { path: "/up".to_owned(), port: 80, tls: false };
        assert_eq!(policy.targets[1].check, check);
    }

    #[test]
    fn a_region_is_where_its_hosts_are() {
        let policy = read("{hostnames: [a.example], targets: [{name: eu, region: eu}]}").unwrap();
        let host = |name: &str, spec: &str| {
            let text = format!("{{kind: Host, name: {name}, spec: {spec}}}");
            let value = crate::parse_documents(&text).unwrap()[0].value.clone();
            Host::read(value).unwrap().1
        };
        let engine = "engine: unix:///run/e";
        let hosts = [
            host("a", &format!("{{{engine}, region: eu, public_addresses: [192.0.2.2]}}")),
            host(
                "b",
                &format!("{{{engine}, region: eu, public_addresses: [192.0.2.1, 192.0.2.2]}}"),
            ),
            host("c", &format!("{{{engine}, region: us, public_addresses: [192.0.2.3]}}")),
            host(
                "d",
                &format!("{{{engine}, region: eu, draining: true, public_addresses: [192.0.2.4]}}"),
            ),
        ];
        let place = |policy: FailoverPolicy| policy.targets[0].place.clone();
        let addresses = |of: &[&str]| {
            TargetPlace::Addresses(of.iter().map(|address| address.parse().unwrap()).collect())
        };
        let located = policy.located(&hosts.each_ref());
        assert_eq!(place(located.clone()), addresses(&["192.0.2.1", "192.0.2.2"]));
        let fewer = located.located(&[&hosts[2], &hosts[3]]);
        assert_eq!(place(fewer), addresses(&[]), "what went before does not stay");
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let problems = read(
            "{hostnames: [shop.example, shop.example, 'no name'],
              targets: [{name: a, cdn: a.example, own: true}, {name: b, addresses: [there]},
                {name: c, own: true, weight: 0, capacity: 0, check: {path: up, port: 0}},
                {name: c, own: true}],
              shift_back: {steps: [50, 5], error_rate: 2, latency: 0.5},
              degraded: {error_rate: -1}, ttl: {steady: 2s, low: 5s}, provider: No,
              on_incident: [{page: []}, {page: [ops, 'x y']}, {roll_back: shop},
                {scale: {app: '', instances: 0}}]}",
        )
        .unwrap_err();
        let expected = [
            ("/spec/hostnames/1", "duplicate"),
            ("/spec/hostnames/2", "bad_hostname"),
            ("/spec/targets/0", "conflict"),
            ("/spec/targets/1/addresses/0", "bad_address"),
            ("/spec/targets/2/weight", "out_of_range"),
            ("/spec/targets/2/capacity", "out_of_range"),
            ("/spec/targets/2/check/path", "bad_path"),
            ("/spec/targets/2/check/port", "out_of_range"),
            ("/spec/targets/3/name", "duplicate"),
            ("/spec/shift_back/steps", "out_of_range"),
            ("/spec/shift_back/error_rate", "out_of_range"),
            ("/spec/degraded/error_rate", "out_of_range"),
            ("/spec/shift_back/latency", "out_of_range"),
            ("/spec/ttl", "out_of_range"),
            ("/spec/targets/0/own", "conflict"),
            ("/spec/provider", "bad_name"),
            ("/spec/on_incident/0/page", "required"),
            ("/spec/on_incident/1/page/1", "bad_name"),
            ("/spec/on_incident/3/scale/app", "bad_name"),
            ("/spec/on_incident/3/scale/instances", "out_of_range"),
        ];
        let expected = expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned()));
        assert_eq!(problems, expected);
        let nobody = read("{hostnames: [], targets: []}").unwrap_err();
        let empty = ["/spec/hostnames", "/spec/targets"];
        assert_eq!(nobody.iter().map(|(at, _)| at.as_str()).collect::<Vec<_>>(), empty);
    }
}
