//! The control loop: how soon what is asked for is so, and what it costs when nothing is.

mod commits;
mod faked;
mod objects;
mod rollout;

pub(crate) use commits::measure as commits;
pub(crate) use objects::{ObjectScale, measure as objects};
pub(crate) use rollout::measure as rollout;
