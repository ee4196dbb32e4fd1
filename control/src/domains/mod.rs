//! Host names of apps outside the base domain: which records they need, and what is seen of them.

mod judge;
mod watcher;

use std::{net::IpAddr, sync::Arc};

use weir_config::{DnsName, RecordType, Resolver};

pub(crate) use self::{
    judge::{DomainState, Judged, Looked, judge},
    watcher::{Domain, Domains, watch},
};

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
