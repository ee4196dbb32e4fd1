//! Getting certificates from an authority by ACME (RFC 8555).
//!
//! [`schedule`] says when, [`order`] is one try from its beginning or from where a crash left it.

mod account;
mod client;
mod order;
mod proof;
mod renewal;
mod schedule;

use std::sync::Arc;

use weir_config::{Certificate, DnsName, Hostname};

pub(crate) use self::{
    account::Issuer,
    order::{Order, order},
    renewal::{Suggestion, suggestion},
    schedule::{Budget, Failures, renew_at},
};

/// What an authority is to be answered while an order is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenges {
    /// Token and answer, over HTTP.
    pub(crate) http: Vec<(Arc<str>, Arc<str>)>,
    /// Host name and certificate, over TLS.
    pub(crate) tls: Vec<(Hostname, Arc<Certificate>)>,
    /// Name and value of a TXT record, by DNS.
    pub(crate) dns: Vec<(DnsName, String)>,
}

/// What has come of a try.
#[derive(Debug)]
pub(crate) struct Ended {
    /// As whom the authority knows us, if that is known by now.
    pub(crate) account: Option<String>,
    pub(crate) result: Result<Issued, Failure>,
}

impl Ended {
    pub(crate) fn panicked(error: &tokio::task::JoinError) -> Self {
        let message = format!("Weir failed: {error}");
        Self { account: None, result: Err(Failure { message, ..Failure::default() }) }
    }
}

/// A certificate that has come.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: zeroize::Zeroizing<String>,
    /// When its authority suggests to renew it, if it does.
    pub(crate) suggestion: Option<Suggestion>,
}

/// A try that came to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    /// In seconds, if the authority said so.
    pub(crate) retry_after: Option<i64>,
    /// Whether it is the authority's limit.
    pub(crate) is_limited: bool,
    /// Whether the order is of no use any more; else the next try goes on with it.
    pub(crate) is_over: bool,
}
