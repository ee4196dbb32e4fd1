//! The Docker provider against a real engine: `$DOCKER_HOST`, or `/var/run/docker.sock`.

#![expect(clippy::unwrap_used, reason = "a panic here is a failed test with a place")]

mod create;
mod engine;
mod life;
mod output;
mod support;
mod transports;
