//! Zones as they are meant. As it is served, one is a [`Zone`](crate::Zone).

mod file;
mod lint;
mod name;
mod records;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

pub use self::{
    file::ImportedZone,
    name::ZoneName,
    records::{Alias, DesiredZone, MAX_NAMES, RecordSetSpec, Serials, WrittenSet},
};
use crate::{
    DnsName, Problem, Problems, Span, TsigAlgorithm, ZoneManifest, ZoneSpec,
    decode::decode_partly,
    spec::{SecondarySpec, TsigKeySpec},
    zone_file::MAX_SECONDS,
};

/// A valid zone, without its records.
#[derive(Clone, Debug, PartialEq)]
pub struct HostedZone {
    pub name: ZoneName,
    /// At least one, the primary first.
    pub nameservers: Vec<DnsName>,
    /// The public addresses of this Weir.
    pub addresses: Vec<IpAddr>,
    /// As in a SOA: the first label is what stands before the `@`.
    pub hostmaster: DnsName,
    /// Whether the names of apps have records by themselves.
    pub auto: bool,
    pub ttl: Ttls,
    pub soa: SoaTimes,
    pub secondaries: Vec<ZoneSecondary>,
}

/// In seconds; see [`TtlSpec`](crate::TtlSpec).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttls {
    pub records: u32,
    pub auto: u32,
    pub nameservers: u32,
    pub negative: u32,
}

/// In seconds; see [`SoaSpec`](crate::SoaSpec).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoaTimes {
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
}

/// A server that copies a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSecondary {
    /// Where it is told of changes, and where it asks from.
    pub address: SocketAddr,
    pub key: Option<ZoneKey>,
}

/// A key for TSIG.
#[derive(Clone, PartialEq, Eq)]
pub struct ZoneKey {
    pub name: DnsName,
    pub algorithm: TsigAlgorithm,
    /// As in the spec: in base64, or in the store sealed.
    pub secret: Option<String>,
}

impl std::fmt::Debug for ZoneKey {
    /// The secret stays out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZoneKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a secret in a spec begins with once it is sealed.
pub const SEALED_PREFIX: &str = "sealed:";

/// The root has as many, and more do not fit into a small answer.
const MAX_NAMESERVERS: usize = 13;
const MAX_ADDRESSES: usize = 16;
const MAX_SECONDARIES: usize = 16;
const DNS_PORT: u16 = 53;

impl HostedZone {
    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Every problem of reading it and every problem of what could be read.
    pub fn read(value: Value) -> Result<(ZoneManifest, Self), Problems> {
        let (manifest, mut problems) = decode_partly::<ZoneManifest>(value);
        let Some(manifest) = manifest else { return Err(problems) };
        match Self::from_manifest(&manifest) {
            Ok(zone) => problems.or_value((manifest, zone)),
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
    pub fn from_manifest(manifest: &ZoneManifest) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        if manifest.kind != "Zone" {
            let message = format!("`{}` is not `Zone`", manifest.kind);
            problems.push(Problem::new("/kind", "unknown_kind", message));
        }
        let name = problems.take("/name", "bad_name", manifest.name.parse::<ZoneName>());
        let Some(name) = name else { return Err(problems) };
        let spec = &manifest.spec;
        let addresses = addresses(&spec.addresses, &mut problems);
        let nameservers = nameservers(&name, spec, &mut problems);
        let hostmaster = hostmaster(&name, spec, &mut problems);
        let mut time = |field: &str, span: Span| {
            let seconds = u32::try_from(span.0.as_secs()).ok().filter(|s| *s <= MAX_SECONDS);
            let seconds = seconds.ok_or_else(|| "write at most 3650d".to_owned());
            problems.take(&format!("/spec/{field}"), "out_of_range", seconds).unwrap_or_default()
        };
        let ttl = Ttls {
            records: time("ttl/records", spec.ttl.records),
            auto: time("ttl/auto", spec.ttl.auto),
            nameservers: time("ttl/nameservers", spec.ttl.nameservers),
            negative: time("ttl/negative", spec.ttl.negative),
        };
        let soa = SoaTimes {
            refresh: time("soa/refresh", spec.soa.refresh),
            retry: time("soa/retry", spec.soa.retry),
            expire: time("soa/expire", spec.soa.expire),
        };
        if soa.refresh == 0 || soa.retry == 0 || soa.expire <= soa.refresh {
            let message = "write refresh and retry above zero, and expire beyond refresh";
            problems.push(Problem::new("/spec/soa", "out_of_range", message));
        }
        let secondaries = secondaries(&spec.secondaries, &mut problems);
        let (Some(hostmaster), auto) = (hostmaster, spec.auto) else { return Err(problems) };
        problems.or_value(Self {
            name,
            nameservers,
            addresses,
            hostmaster,
            auto,
            ttl,
            soa,
            secondaries,
        })
    }
}

fn addresses(written: &[String], problems: &mut Problems) -> Vec<IpAddr> {
    if written.len() > MAX_ADDRESSES {
        let message = format!("write at most {MAX_ADDRESSES}");
        problems.push(Problem::new("/spec/addresses", "too_many", message));
    }
    let mut found = Vec::new();
    for (i, text) in written.iter().enumerate() {
        let address = text
            .parse::<IpAddr>()
            .ok()
            .filter(|address| !address.is_unspecified() && !address.is_multicast())
            .ok_or_else(|| format!("`{text}` is not the address of a machine, as 192.0.2.1"));
        found.extend(problems.take(&format!("/spec/addresses/{i}"), "bad_address", address));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn nameservers(name: &ZoneName, spec: &ZoneSpec, problems: &mut Problems) -> Vec<DnsName> {
    let mut found = Vec::new();
    if spec.nameservers.is_empty() {
        let own = name.dns().child(b"ns1").map_err(|why| why.to_string());
        found.extend(problems.take("/name", "bad_name", own));
        if spec.addresses.is_empty() {
            let message = "write the public addresses of this Weir, as [192.0.2.1], or in \
                           `nameservers` the names of servers that answer for the zone";
            problems.push(Problem::new("/spec/addresses", "required", message));
        }
    }
    if spec.nameservers.len() > MAX_NAMESERVERS {
        let message = format!("write at most {MAX_NAMESERVERS}");
        problems.push(Problem::new("/spec/nameservers", "too_many", message));
    }
    for (i, text) in spec.nameservers.iter().enumerate() {
        let pointer = format!("/spec/nameservers/{i}");
        let Some(server) = problems.take(&pointer, "bad_name", text.parse::<DnsName>()) else {
            continue;
        };
        if server.is_root() || server.is_wildcard() {
            let message = "write the name of a server, as ns1.example.com";
            problems.push(Problem::new(pointer, "bad_name", message));
        } else if found.contains(&server) {
            let message = format!("there is another `{server}`");
            problems.push(Problem::new(pointer, "duplicate", message));
        } else {
            found.push(server);
        }
    }
    found
}

/// `a.b@example.com` is `a\.b.example.com` in a SOA (RFC 1035 section 8).
fn hostmaster(name: &ZoneName, spec: &ZoneSpec, problems: &mut Problems) -> Option<DnsName> {
    let Some(text) = &spec.hostmaster else { return name.dns().child(b"hostmaster").ok() };
    let parsed = text.rsplit_once('@').and_then(|(local, domain)| {
        let domain: DnsName = domain.parse().ok()?;
        domain.child(local.as_bytes()).ok()
    });
    let parsed = parsed.ok_or_else(|| format!("`{text}` is not a mail address, as me@example.com"));
    problems.take("/spec/hostmaster", "bad_address", parsed)
}

fn secondaries(written: &[SecondarySpec], problems: &mut Problems) -> Vec<ZoneSecondary> {
    if written.len() > MAX_SECONDARIES {
        let message = format!("write at most {MAX_SECONDARIES}");
        problems.push(Problem::new("/spec/secondaries", "too_many", message));
    }
    let mut found = Vec::new();
    for (i, spec) in written.iter().enumerate() {
        let pointer = format!("/spec/secondaries/{i}");
        let text = &spec.address;
        let address = text.parse::<SocketAddr>();
        let address = address.or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, DNS_PORT).into()));
        let address = address
            .map_err(|_| format!("`{text}` is not an IP address, as 192.0.2.1 or 192.0.2.1:5353"));
        let address = problems.take(&format!("{pointer}/address"), "bad_address", address);
        let key = spec.key.as_ref().map(|key| self::key(&format!("{pointer}/key"), key, problems));
        match (address, key) {
            (Some(address), None) => found.push(ZoneSecondary { address, key: None }),
            (Some(address), Some(Some(key))) => {
                found.push(ZoneSecondary { address, key: Some(key) });
            }
            _ => {}
        }
    }
    found
}

fn key(pointer: &str, spec: &TsigKeySpec, problems: &mut Problems) -> Option<ZoneKey> {
    let is_secret =
        |secret: &String| secret.starts_with(SEALED_PREFIX) || tsig_secret(secret).is_some();
    if !spec.secret.as_ref().is_none_or(is_secret) {
        let message = "write 16 to 128 bytes in base64, as by: head -c 32 /dev/urandom | base64";
        problems.push(Problem::new(format!("{pointer}/secret"), "bad_secret", message));
    }
    let name = problems.take(&format!("{pointer}/name"), "bad_name", spec.name.parse());
    let algorithm = spec.algorithm.parse();
    let algorithm = problems.take(&format!("{pointer}/algorithm"), "bad_algorithm", algorithm);
    Some(ZoneKey { name: name?, algorithm: algorithm?, secret: spec.secret.clone() })
}

/// The bytes of a key's secret; `None` if it is no base64 of 16 to 128 bytes.
pub fn tsig_secret(text: &str) -> Option<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text).ok().filter(|secret| (16..=128).contains(&secret.len()))
}
