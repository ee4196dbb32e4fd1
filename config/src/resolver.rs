//! Who asks the DNS what everybody is told.

use std::{fmt, pin::Pin};

use crate::{DnsName, RecordType};

/// Asks the DNS what everybody is told. It may take long, and never blocks.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The records of a type at a name; where the name is an alias, those that it leads to. A name
    /// that has none is no error.
    ///
    /// # Errors
    /// When nobody tells, in words.
    fn lookup<'a>(&'a self, name: &'a DnsName, rtype: RecordType) -> Lookup<'a>;
}

/// What a look-up comes to.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Found, String>> + Send + 'a>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The data of each record as it goes over the wire, uncompressed.
    pub data: Vec<Box<[u8]>>,
    /// How long that may be kept, in seconds.
    pub ttl: u32,
}
