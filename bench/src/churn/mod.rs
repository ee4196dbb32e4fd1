//! Changes of what is served, while it is served: how long until a request meets the change.

mod peers;
mod weir;

pub(crate) use peers::measure as peers;
pub(crate) use weir::measure as weir;
