//! A running proxy, real TLS clients before it, real servers behind it; the control loop's side is
//! scripted by the tests.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a place")]

mod access_log;
mod back_pressure;
mod balance;
mod certificates;
mod clients;
mod conformance_h1;
mod conformance_h2;
mod connections;
mod early_wake;
mod failover;
mod failures;
mod floods;
mod forwarding;
mod frames;
mod grpc;
mod h2c;
mod harness;
mod http2;
mod metrics;
mod mtls;
mod outliers;
mod proxies;
mod proxy_protocol_out;
mod recorder;
mod refusals;
mod request_limits;
mod retries;
mod shutdown;
mod smuggling;
mod sse;
mod swaps;
mod text_codec;
mod tickets;
mod timeline;
mod timeouts;
mod tunnels;
mod upstream_tls;
mod upstreams;
mod wakes;
