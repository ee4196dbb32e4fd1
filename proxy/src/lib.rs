//! The data plane: terminates TLS, finds the app of a request in the published snapshot, wakes it
//! if it sleeps, and forwards the request to one of its instances.
//!
//! It decides nothing. What is served comes down in a [`Snapshot`](weir_config::Snapshot), pinned
//! once per request; what happens goes up as levels in [`Activity`](weir_config::Activity) and as
//! hints to [`Observe`](weir_config::Observe). On the way of a request there is no lock and no I/O
//! but the request's own.

mod access_log;
mod admit;
mod asked;
mod claims;
mod connection;
mod context;
mod debug;
#[cfg(test)]
mod documented;
mod forwarded;
mod gateway;
mod grpc;
mod hold;
mod host;
mod listen;
mod metrics;
mod pages;
mod pick;
mod request_limits;
mod retry;
mod targets;
mod timeline;
mod timeouts;
mod timer;
mod tls;
mod upstream;

pub use access_log::{AccessLog, AccessLogGuard};
pub use listen::{Phase, PrivateCalls, Proxy, ProxyError, ProxyOptions};
pub use metrics::ProxyMetrics;
pub use tls::{TicketKeys, TicketKeysError, Tickets};
pub use upstream::{Dial, NoDevices, Tunnel};
