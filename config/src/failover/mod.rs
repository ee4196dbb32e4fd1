//! Failover: by what law the targets of a name share its clients, and which client is whose.

mod buckets;
mod law;
mod shares;

pub use buckets::Buckets;
pub use law::{AllDown, DegradedLimits, FailoverLaw, Gate, MAX_TARGETS, Sharing, TargetLaw, Ttl};
pub use shares::{Shares, Steering, WHOLE};
