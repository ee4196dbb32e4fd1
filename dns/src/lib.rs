//! The authoritative DNS server: answers questions from the zones of the published snapshot.
//!
//! It decides nothing, and knows only what is in a [`Snapshot`](weir_config::Snapshot). A question
//! over UDP takes the fast path: many at a time out of the kernel (`udp`), looked at without being
//! copied (`request`), answered by one walk through a zone (`answer`) that writes what it finds
//! (`writer`). Whatever is unusual takes the slow path (`slow`), on the types of hickory. Both walk
//! the same way and give the same octets. On the way of a question there is no lock and no I/O but
//! the question's own.

mod answer;
mod cookies;
mod counters;
mod edns;
#[cfg(test)]
mod fuzz;
mod metrics;
mod name;
mod notify;
mod rate_limit;
mod request;
mod resolver;
mod respond;
mod server;
mod slow;
mod tcp;
mod transfer;
mod tsig;
mod udp;
mod writer;

pub use metrics::DnsMetrics;
pub use rate_limit::Rate;
pub use resolver::StubResolver;
pub use server::{Options, Server, bind};
pub use tcp::TcpLimits;
