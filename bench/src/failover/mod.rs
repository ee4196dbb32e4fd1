//! Failover: the law in virtual time, and the whole of Weir before targets that break.

mod clients;
mod fault;
mod months;
mod resolver;
mod scenario;
mod stage;

pub(crate) use months::measure as measure_months;
pub(crate) use scenario::measure as measure_scenarios;
pub use scenario::{Expected, Repeats, Scenario, Seen, live_through};
