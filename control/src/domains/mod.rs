//! Host names of apps outside the base domain: which records they need, and what is seen of them.

mod judge;
mod question;
mod watcher;

use std::{net::IpAddr, sync::Arc};

use weir_config::{DnsName, Hostname, RecordType, Resolver, Snapshot};

pub(crate) use self::{
    judge::{DomainState, Judged, Looked, Proof, ProofKind, judge},
    watcher::{Domain, Domains, Watcher},
};

/// CNAMEs that are followed.
const MOST_ALIASES: usize = 8;

/// The name that a wildcard is below; any other is itself.
pub(crate) fn without_wildcard(name: &Hostname) -> Hostname {
    name.above_wildcard().unwrap_or_else(|| name.clone())
}

/// Where an authority looks for the TXT record that proves a host name (RFC 8555, 8.4).
pub(crate) fn challenge_name(host: &Hostname) -> Result<DnsName, String> {
    format!("_acme-challenge.{host}").parse()
}

/// The record that leads an authority from there into the zone of the base domain.
pub(crate) fn delegation(host: &Hostname, base: &Hostname) -> String {
    format!("_acme-challenge.{host}. CNAME {host}._acme-challenge.{base}.")
}

/// A TXT record's strings in one piece, as they are meant (RFC 7208, 3.3).
fn joined(mut data: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let (string, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        text.extend_from_slice(string);
        data = rest;
    }
    text
}

/// The one that the whole of control asks.
#[derive(Clone, Debug)]
pub(crate) struct Asker(pub(crate) Arc<dyn Resolver>);

impl Asker {
    /// Both sorts of addresses, in order.
    pub(crate) async fn addresses(&self, name: &DnsName) -> Result<Vec<IpAddr>, String> {
        let (v4, v6) =
            tokio::join!(self.0.lookup(name, RecordType::A), self.0.lookup(name, RecordType::AAAA));
        let v4 = v4?.data.into_iter().filter_map(|data| <[u8; 4]>::try_from(&*data).ok());
        let v6 = v6?.data.into_iter().filter_map(|data| <[u8; 16]>::try_from(&*data).ok());
        let mut all: Vec<_> = v4.map(IpAddr::from).chain(v6.map(IpAddr::from)).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Where, in a zone of ours, the TXT record is to be that proves a host name: where it is looked
    /// for, or where CNAMEs lead from there. `None` if they lead to no zone of ours.
    pub(crate) async fn delegated(
        &self,
        host: &Hostname,
        served: &Snapshot,
    ) -> Result<Option<DnsName>, String> {
        let mut name = challenge_name(host)?;
        for _ in 0..MOST_ALIASES {
            if served.zone_of(name.wire()).is_some() {
                return Ok(Some(name));
            }
            let found = self.0.lookup(&name, RecordType::CNAME).await?.data;
            let Some(target) = found.first() else { return Ok(None) };
            name = DnsName::from_wire(target).map_err(|error| error.to_string())?;
        }
        Ok(None)
    }

    /// Whether one of the TXT records at a name says this.
    pub(crate) async fn says(&self, name: &DnsName, text: &str) -> Result<bool, String> {
        let found = self.0.lookup(name, RecordType::TXT).await?.data;
        Ok(found.iter().any(|data| joined(data) == text.as_bytes()))
    }

    /// The CAA records that are for a name: those at it, else those at the nearest name above that
    /// has any (RFC 8659, 3).
    pub(crate) async fn authorizations(&self, name: &DnsName) -> Result<Vec<Box<[u8]>>, String> {
        let mut at = Some(name.clone());
        while let Some(name) = at.filter(|name| !name.is_root()) {
            let found = self.0.lookup(&name, RecordType::CAA).await?.data;
            if !found.is_empty() {
                return Ok(found);
            }
            at = name.parent();
        }
        Ok(Vec::new())
    }
}
