//! How an instance is reached: plaintext HTTP/1.1, with a bound on every wait.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use http::header;
use pingora::{proxy::Session, upstreams::peer::HttpPeer};
use weir_config::{Endpoint, Timeouts};

use crate::upgrade::ConnectForUpgrade;

/// A connection without a request is kept this long. Node closes its side after 5 s, and a request
/// that meets the closing is lost if it must not be repeated; so we are first.
const IDLE: Duration = Duration::from_secs(4);

/// How long an upgraded connection (WebSocket) may be silent.
const TUNNEL: Duration = Duration::from_secs(60 * 60);

/// Sets the bounds of both sides, and says where to.
pub(crate) fn peer(session: &mut Session, timeouts: &Timeouts, endpoint: &Endpoint) -> HttpPeer {
    let mut peer = HttpPeer::new(endpoint.address, false, String::new());
    // An address may be another instance's by now; a pooled connection is used again only for the
    // instance that it was made to.
    let mut hasher = DefaultHasher::new();
    endpoint.id.hash(&mut hasher);
    peer.group_key = hasher.finish();
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.idle_timeout = Some(IDLE);
    let (mut read, mut write) = (timeouts.read, timeouts.write);
    if is_web_socket(session) {
        // Pingora takes one value for all of a request; the connection itself keeps the handshake's.
        (read, write) = (TUNNEL, TUNNEL);
        if session.is_body_empty() {
            options.custom_l4 = Some(Arc::new(ConnectForUpgrade { handshake: timeouts.read }));
            // It is good for one request, so it shares no pool and stays in none.
            peer.group_key ^= 1;
            options.idle_timeout = Some(Duration::ZERO);
        }
    }
    let options = &mut peer.options;
    options.read_timeout = Some(read);
    options.write_timeout = Some(write);
    session.set_read_timeout(Some(read));
    session.set_write_timeout(Some(write));
    peer
}

/// The one upgrade that is passed on. Of others, Pingora forwards the plain request.
pub(crate) fn is_web_socket(session: &Session) -> bool {
    let upgrade = session.req_header().headers.get(header::UPGRADE);
    session.is_upgrade_req()
        && upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
