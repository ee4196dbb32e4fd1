//! A running proxy, real TLS clients before it, real servers behind it; the control loop's side is
//! scripted by the tests.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a place")]

mod access_log;
mod balance;
mod certificates;
mod clients;
mod connections;
mod early_wake;
mod failures;
mod floods;
mod forwarding;
mod harness;
mod limits;
mod metrics;
mod mtls;
mod outliers;
mod proxies;
mod recorder;
mod refusals;
mod retries;
mod shutdown;
mod smuggling;
mod swaps;
mod tickets;
mod timeouts;
mod tunnels;
mod upstreams;
mod wakes;
