//! TLS with clients: one handshake for each connection, by the server name that its client asks
//! for.

mod acceptor;
mod certificates;
mod client_auth;
mod early_wake;
mod tickets;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub(crate) use acceptor::{AcceptError, Accepted, Acceptor};
pub(crate) use certificates::Certificates;
pub(crate) use client_auth::ClientCertificate;
pub(crate) use early_wake::{EarlyWake, EarlyWakes};
pub use tickets::{TicketKeys, TicketKeysError, Tickets};

/// The cryptography of the whole process: two are compiled in, so `main` says which is meant.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
