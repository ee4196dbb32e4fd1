//! How an instance is reached: by which protocol, trusting whom, with a bound on every wait.

mod connect;
mod gate;
mod line;
mod proxy_protocol;
mod roots;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use http::{Method, header};
use pingora::{proxy::Session, upstreams::peer::HttpPeer};
use weir_config::{Endpoint, Reach, Timeouts, TrafficPolicy, UpstreamProtocol};

pub use self::line::{Dial, NoDevices, Tunnel};
use self::{connect::Connector, gate::Gated};
pub(crate) use self::{gate::Gate, roots::Roots};
use crate::grpc;

/// A connection without a request is kept this long. Node closes its side after 5 s, and a request
/// that meets the closing is lost if it must not be repeated; so we are first.
const IDLE: Duration = Duration::from_secs(4);

/// How long an upgraded connection (WebSocket) may be silent.
const TUNNEL: Duration = Duration::from_secs(60 * 60);

/// Requests that share one HTTP/2 connection. Fewer than any server's usual limit (100 and more):
/// Pingora lets a request that is over the server's limit wait behind those that are under it.
const STREAMS: u32 = 32;

/// What an instance may send on one stream before the client has taken it. 256 KiB carries 5 MB/s
/// over a path of 50 ms, and far more over the usual one of less than 1 ms.
const STREAM_WINDOW: u32 = 256 << 10;

/// All streams' windows together, so that clients who read slowly cannot fill the connection's and
/// stop those who share it.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;

/// The longest body that is sent like any request over HTTP/2. At the slowest that a client may send
/// it, it comes in half a minute.
const SMALL_BODY: u64 = 16 << 10;

/// A peer, and for a request that Pingora cannot bound the gate that its connection has.
pub(crate) struct Reached {
    pub(crate) peer: HttpPeer,
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Sets the bounds of both sides, and says where to and how.
pub(crate) fn reach(
    session: &mut Session,
    policy: &TrafficPolicy,
    endpoint: &Endpoint,
    roots: &Roots,
    devices: &Arc<dyn Dial>,
) -> Reached {
    let upstream = &policy.upstream;
    // A name that is not empty is verified, and there is none without a name.
    let server_name =
        upstream.tls.as_ref().map_or_else(String::new, |tls| tls.server_name.to_string());
    let mut peer = HttpPeer::new(endpoint.address, upstream.tls.is_some(), server_name);
    if let Some(own) = upstream.tls.as_ref().and_then(|tls| tls.roots.as_ref()) {
        peer.options.ca = Some(roots.parsed(own.certificates()));
    }

    let upgrade = is_web_socket(session);
    let is_http2 = upstream.protocol == UpstreamProtocol::Http2 && !upgrade;
    let gated = match upgrade {
        true => Some(Gated::Upgrade),
        false => (is_http2 && is_upload(session)).then_some(Gated::Upload),
    };
    let gate = gated.map(|kind| {
        let Timeouts { read, total, .. } = policy.timeouts;
        Arc::new(Gate::new(kind, total.map_or(read, |total| read.min(total))))
    });
    let client = upstream.proxy_protocol.and_then(|_| addresses(session));
    let device = endpoint.id.instance().filter(|_| endpoint.reach == Reach::Device);
    let device = device.map(|instance| (devices.clone(), instance.host.clone()));
    if upstream.proxy_protocol.is_some() || gate.is_some() || device.is_some() {
        let proxy_protocol = upstream.proxy_protocol;
        let connector = Connector { device, proxy_protocol, client, gate: gate.clone() };
        peer.options.custom_l4 = Some(Arc::new(connector));
    }
    // An upgrade is of HTTP/1.1, whatever else the app speaks.
    if is_http2 {
        peer.options.set_http_version(2, 2);
        // A connection that begins with one client's address is not for other clients' requests,
        // and one that takes a single stream at a time is not kept among the shared ones.
        let shared = upstream.proxy_protocol.is_none() && gate.is_none();
        peer.options.max_h2_streams = if shared { STREAMS as usize } else { 1 };
        peer.options.h2_stream_window_size = Some(STREAM_WINDOW);
        peer.options.h2_connection_window_size = Some(CONNECTION_WINDOW);
    }
    peer.group_key = group_key(policy, endpoint, client);
    bound(session, &mut peer, policy, gated);
    if gate.is_some() {
        // It is good for one request, so it shares no pool and stays in none.
        peer.group_key ^= 1;
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
    Reached { peer, gate }
}

/// Pooled connections are used again for requests with the same key only: to the same instance since
/// it was last started (its address may be another's by now, or a dead process's), by the same
/// rules (Pingora's own key leaves out who is trusted), and, where connections tell it, from the
/// same client.
fn group_key(
    policy: &TrafficPolicy,
    endpoint: &Endpoint,
    client: Option<(SocketAddr, SocketAddr)>,
) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&endpoint.id, endpoint.ready_since.0, &policy.upstream, client).hash(&mut hasher);
    hasher.finish()
}

fn bound(session: &mut Session, peer: &mut HttpPeer, policy: &TrafficPolicy, gated: Option<Gated>) {
    let timeouts = &policy.timeouts;
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.idle_timeout = Some(IDLE);
    let (read, write) = match gated {
        Some(Gated::Upgrade) => (TUNNEL, TUNNEL),
        Some(Gated::Upload) | None => (timeouts.read, timeouts.write),
    };
    session.set_read_timeout(Some(read));
    session.set_write_timeout(Some(write));
    options.write_timeout = Some(write);
    // The gate keeps what is less.
    options.read_timeout = Some(if gated.is_some() { TUNNEL } else { read });
}

/// The client's address and the one that it connected to.
fn addresses(session: &Session) -> Option<(SocketAddr, SocketAddr)> {
    Some((*session.client_addr()?.as_inet()?, *session.server_addr()?.as_inet()?))
}

/// A handshake of the one upgrade that is passed on, as it must be (RFC 6455, 4.1). Of others,
/// Pingora forwards the plain request, which is bound as any is.
pub(crate) fn is_web_socket(session: &mut Session) -> bool {
    let request = session.req_header();
    let upgrade = request.headers.get(header::UPGRADE);
    session.is_upgrade_req()
        && request.method == Method::GET
        && upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && session.is_body_empty()
}

/// Whether a body may be on its way for longer than an answer is waited for. The calls of gRPC have
/// no length and are many: they keep to shared connections, and their answer's clock begins with
/// them.
fn is_upload(session: &mut Session) -> bool {
    if session.is_body_empty() || grpc::is_call(session.req_header()) {
        return false;
    }
    let length = session.req_header().headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_none_or(|length| length > SMALL_BODY)
}
