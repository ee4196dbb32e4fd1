//! Failover: by what law the targets of a name share its clients, and which client is whose.

mod buckets;
mod law;
mod policy;
mod shares;
mod steered;

pub use buckets::Buckets;
pub(crate) use buckets::target_of;
pub use law::{AllDown, DegradedLimits, FailoverLaw, Gate, MAX_TARGETS, Sharing, TargetLaw, Ttl};
pub use policy::{FailoverMode, FailoverPolicy, FailoverTarget, TargetCheck, TargetPlace};
pub use shares::{Shares, Steering, WHOLE};
pub use steered::{Steered, SteeredTarget};
