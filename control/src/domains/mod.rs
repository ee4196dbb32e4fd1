//! Host names of apps outside the base domain: which records they need, and what is seen of them.

mod judge;
mod watcher;

use std::{fmt, net::IpAddr, pin::Pin, sync::Arc};

use weir_config::{DnsName, RecordType};

pub(crate) use self::{
    judge::{DomainState, Judged, Looked, judge},
    watcher::{Domain, Domains, watch},
};

/// Asks the DNS what everybody is told.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The records of a type at a name, as they go over the wire; where the name is an alias, those
    /// that it leads to. A name that has none is no error.
    ///
    /// # Errors
    /// When nobody answers, in words.
    fn lookup<'a>(&'a self, name: &'a DnsName, rtype: RecordType) -> Lookup<'a>;
}

/// What a look-up comes to.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Vec<Box<[u8]>>, String>> + Send + 'a>>;

/// The one that the whole of control asks.
#[derive(Clone, Debug)]
pub(crate) struct Asker(pub(crate) Arc<dyn Resolver>);

impl Asker {
    /// Both sorts of addresses, in order.
    pub(crate) async fn addresses(&self, name: &DnsName) -> Result<Vec<IpAddr>, String> {
        let (v4, v6) =
            tokio::join!(self.0.lookup(name, RecordType::A), self.0.lookup(name, RecordType::AAAA));
        let v4 = v4?.into_iter().filter_map(|data| Some(IpAddr::from(<[u8; 4]>::try_from(&*data).ok()?)));
        let v6 =
            v6?.into_iter().filter_map(|data| Some(IpAddr::from(<[u8; 16]>::try_from(&*data).ok()?)));
        let mut all: Vec<_> = v4.chain(v6).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// The CAA records that are for a name: those at it, else those at the nearest name above that
    /// has any (RFC 8659, 3).
    pub(crate) async fn authorizations(&self, name: &DnsName) -> Result<Vec<Box<[u8]>>, String> {
        let mut at = Some(name.clone());
        while let Some(name) = at.filter(|name| !name.is_root()) {
            let found = self.0.lookup(&name, RecordType::CAA).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            at = name.parent();
        }
        Ok(Vec::new())
    }
}
