//! The server on real sockets, as its clients see it.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod differential;
mod ferret;
mod harness;
mod limits;
mod peers;
mod protocol;
mod random_zone;
mod resolver;
mod secondaries;
mod servers;
mod sockets;
mod steering;
mod tcp;
mod wildcards;
mod zonemaster;
mod zones;
