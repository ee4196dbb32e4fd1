//! A running proxy, real TLS clients before it, real servers behind it; the control loop's side is
//! scripted by the tests.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a place")]

mod access_log;
mod certificates;
mod clients;
mod connections;
mod early_wake;
mod failures;
mod floods;
mod forwarding;
mod harness;
mod metrics;
mod mtls;
mod proxies;
mod recorder;
mod refusals;
mod shutdown;
mod smuggling;
mod swaps;
mod tickets;
mod tunnels;
mod upstreams;
mod wakes;
