//! Failover: asks the targets of each policy whether they are well, has the law decide, keeps what
//! was decided, has it served, and tells.
//!
//! ```text
//!   probes, references, the proxy's counters, orders
//!                    │
//!                    ▼
//!        pilot (no I/O): Schedule ─► Sight ─► Quorum ─► Journal ─► decisions
//!                    │
//!                    ▼
//!        flight: the state is written ─► one event to the loop ─► one Snapshot for proxy and DNS
//!                                                                 ─► acknowledged by its epoch
//! ```
//!
//! One task for each policy, beside the loop; none of them waits for another, and the data plane for
//! none of them.

mod actions;
mod ask;
mod clock;
mod counters;
mod flight;
mod handle;
mod keeper;
mod metrics;
mod passive;
mod pilot;
mod references;
mod saver;
mod schedule;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use self::{
    actions::act,
    handle::{
        FailoverHandle, FailoverOrder, FailoverStatus, IncidentStatus, NotObeyed, Simulated,
        Simulation, TargetStatus,
    },
    keeper::{Surroundings, keep},
    metrics::FailoverMetrics,
    words::FailoverTrouble,
};
