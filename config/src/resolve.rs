//! Who looks up the addresses of names that others answer for.

use std::{fmt, future::Future, net::IpAddr, pin::Pin};

use crate::DnsName;

/// What a name leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    pub addresses: Vec<IpAddr>,
    /// How long that may be kept, in seconds.
    pub ttl: u32,
}

/// Looks up addresses. It may take long, and never blocks.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// # Errors
    /// Why nobody told. A name that has no addresses is no error.
    fn resolve<'a>(
        &'a self,
        name: &'a DnsName,
    ) -> Pin<Box<dyn Future<Output = Result<Resolved, String>> + Send + 'a>>;
}
