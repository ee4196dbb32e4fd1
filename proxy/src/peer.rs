//! How an instance is reached: plaintext HTTP/1.1, with a bound on every wait.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use pingora::upstreams::peer::HttpPeer;
use weir_config::{AppRoute, Endpoint};

/// A connection without a request is kept this long. Node closes its side after 5 s, and a request
/// that meets the closing is lost if it must not be repeated; so we are first.
const IDLE: Duration = Duration::from_secs(4);

/// How long an upgraded connection (WebSocket) may be silent.
const TUNNEL: Duration = Duration::from_secs(60 * 60);

/// How long to wait for either side.
pub(crate) struct Patience {
    connect: Duration,
    pub(crate) read: Duration,
    pub(crate) write: Duration,
}

impl Patience {
    /// A request to upgrade has the tunnel's patience from the start, because Pingora takes one
    /// value for all of a request.
    pub(crate) fn of(route: &AppRoute, upgrade: bool) -> Self {
        let timeouts = &route.timeouts;
        match upgrade {
            true => Self { connect: timeouts.connect, read: TUNNEL, write: TUNNEL },
            false => Self { connect: timeouts.connect, read: timeouts.read, write: timeouts.write },
        }
    }
}

pub(crate) fn peer(endpoint: &Endpoint, patience: &Patience) -> HttpPeer {
    let mut peer = HttpPeer::new(endpoint.address, false, String::new());
    // An address may be another instance's by now; a pooled connection is used again only for the
    // instance that it was made to.
    let mut hasher = DefaultHasher::new();
    endpoint.instance.hash(&mut hasher);
    peer.group_key = hasher.finish();
    let options = &mut peer.options;
    options.connection_timeout = Some(patience.connect);
    options.total_connection_timeout = Some(patience.connect);
    options.read_timeout = Some(patience.read);
    options.write_timeout = Some(patience.write);
    options.idle_timeout = Some(IDLE);
    peer
}
