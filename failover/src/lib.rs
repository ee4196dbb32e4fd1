//! The law of failover, in four layers. None of them does any I/O, reads a clock or leaves anything
//! to chance, so that years can be simulated in seconds and an incident be lived through again.
//!
//! ```text
//!   probes ─► Sight ────────► Quorum ───────► controller ─────────► Steering
//!             one vantage     all vantages    all targets           shares and TTL, for
//!             and one target  of one target   of one name           the proxy, then DNS
//! ```
//!
//! - **Sight.** A probe that is late or fails is asked again at once and every 100 ms. A target is
//!   *bad* for a vantage when nothing that was sent for 400 ms has been answered, and *good* again
//!   after five answers in a row, a second apart. An answer to a later probe outweighs a failure of
//!   an earlier one, so lost packets alone do not add up.
//! - **Quorum.** A target is *down* when all vantages say so that are heard of, or more than half of
//!   all for three seconds. A vantage whose references are not well
//!   either abstains. With too few votes everything stays as it is.
//! - **Controller.** A target that is down is left at once, one that is clearly worse than the
//!   alternative by steps; but only for one that a quorum says is good *now*: where the origin
//!   behind both fails, nothing moves. Whoever was left stays out for a while, longer each time, and
//!   comes back by steps, each with a gate. Too many departures freeze the returns.
//! - **Steering.** More of a target adds clients to it and moves nobody else
//!   ([`Buckets`](weir_config::Buckets)).

mod controller;
mod quality;
mod quorum;
mod sight;
pub mod simulation;
mod timeline;

pub use controller::{Decision, Event, Frozen, Hold, Order, Phase, Standing, State, Why, step};
pub use quality::{Samples, Source};
pub use quorum::{FRESH, Health, Quorum};
pub use sight::{CONFIRM, INTERVAL, Sample, Sight, TIMEOUT, Verdict, is_cut_off, pause};
pub use timeline::{Figures, Incident, Journal, Note, Server, Step};
