//! What control and the agent on a device say to each other.
//!
//! A device makes one connection, to control, by whichever [transport](crate::Transport) reaches
//! it; TLS on top proves to each side who the other is. On it the device *serves* HTTP/2 and
//! control asks: so a call to a device is a call to any other engine, a container's output flows
//! as it is written, and a connection to an app is a stream (`CONNECT`) beside all else.
//!
//! The agent is itself a [`Provider`]: what it is told to make and start it keeps, and goes on
//! keeping when nobody is there to tell it anything.

mod cut;
mod devices;
mod dialled;
mod link;
mod remote;
mod serve;
mod wire;

pub use devices::Devices;
pub use link::Link;
pub use remote::Device;
pub use serve::{Agent, Program, serve};
pub use wire::{About, Begin, Caller, Enrol, Enrolled};

use std::time::Duration;

/// How often each side asks the other whether it is there, and how long it waits for an answer: a
/// line that is cut off says nothing.
const BEAT: Duration = Duration::from_secs(5);
const BEAT_LIMIT: Duration = Duration::from_secs(5);

/// Connections to apps on one device at a time, and calls beside them: however many connections
/// clients hold, control is heard.
const DIALS: u32 = 512;
const CALLS: u32 = 128;
/// Connections that apps on one device have to others at a time.
const CALLERS: u32 = 128;
const STREAMS: u32 = DIALS + CALLERS + CALLS;
/// What may be under way on one stream before who receives it has taken it, in bytes: 128 KiB
/// carries 1.3 MB/s over a path of 100 ms.
const STREAM_WINDOW: u32 = 128 << 10;
/// All streams' windows together: so who does not read holds up nobody else, and what an agent may
/// have to keep is bounded.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
