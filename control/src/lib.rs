//! The control loop: what should be, what is, and what to do about it.
//!
//! The store keeps what operators want. The reactor takes in events, `plan` decides, and what
//! follows is a snapshot for the data plane and actions for a host's engine. The admin API writes
//! to the store and reads copies of the world; the loop never waits for it.

mod acme;
mod action;
mod agenda;
mod aliases;
pub mod api;
mod authority;
mod certificates;
mod conductor;
mod control;
mod devices;
mod domains;
mod engine;
mod engines;
mod event;
mod executor;
mod failover;
mod failpoint;
mod failure;
mod feed;
mod gate;
mod health;
mod hints;
mod history;
mod host;
mod incidents;
mod instance;
mod key_file;
mod last_good;
mod mask;
mod members;
mod notifications;
mod observed;
mod operations;
mod plan;
mod probe;
mod prober;
mod providers;
mod public_check;
mod quarantine;
mod random;
mod reactor;
mod reconciler;
mod recorder;
mod redact;
mod rehearsal;
mod rolling_update;
mod seal;
mod served;
#[cfg(test)]
mod simulation;
mod state_dir;
mod status;
mod store;
mod subject;
mod time;
mod token;
mod transition;
mod vault;
mod webhook;
mod zones;

pub use authority::AuthorityError;
pub use certificates::certificates;
pub use control::{Control, ControlError, Opened, Options};
pub use devices::{Calls, DeviceOptions, GateError};
pub use hints::Hints;
pub use rehearsal::rehearse;
pub use state_dir::{StateDir, StateDirError, write_private};
pub use store::StoreError;
