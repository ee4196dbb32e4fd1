//! A running proxy, real TLS clients before it, real servers behind it; the control loop's side is
//! scripted by the tests.

mod access_log;
mod certificates;
mod clients;
mod failures;
mod forwarding;
mod harness;
mod metrics;
mod refusals;
mod shutdown;
mod swaps;
mod tunnels;
mod upstreams;
mod wakes;
