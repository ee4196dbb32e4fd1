//! How many connections there may be, and how many there are.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use weir_config::ClientKey;

/// The connections of one proxy, counted.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    max_per_client: usize,
    all: AtomicUsize,
    ports: [PortCounters; Port::ALL.len()],
    dropped: [AtomicU64; Dropped::ALL.len()],
    clients: Clients,
}

/// By which way a connection came: one of the two listeners, or from an app on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Http,
    Https,
    Private,
}

/// Why a connection was closed before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    OverLimit,
    OverClientLimit,
    BadProxyHeader,
    Handshake,
    HandshakeTimeout,
    HeaderTimeout,
    HeaderTooLarge,
    WriteTimeout,
}

#[derive(Debug, Default)]
struct PortCounters {
    accepted: AtomicU64,
    open: AtomicUsize,
}

/// A connection that is counted as open until this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    connections: Arc<Connections>,
    port: Port,
    client: Option<[usize; ROWS]>,
}

impl Connections {
    pub(crate) fn new(max: usize, max_per_client: usize) -> Self {
        Self {
            max,
            max_per_client,
            all: AtomicUsize::new(0),
            ports: Default::default(),
            dropped: Default::default(),
            clients: Clients::new(),
        }
    }

    /// Counts a connection, unless there are too many.
    pub(crate) fn admit(self: &Arc<Self>, port: Port) -> Option<Open> {
        self.ports[port as usize].accepted.fetch_add(1, Relaxed);
        if self.all.fetch_add(1, Relaxed) >= self.max {
            self.all.fetch_sub(1, Relaxed);
            self.count(Dropped::OverLimit);
            return None;
        }
        self.ports[port as usize].open.fetch_add(1, Relaxed);
        Some(Open { connections: self.clone(), port, client: None })
    }

    pub(crate) fn count(&self, reason: Dropped) {
        self.dropped[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped[reason as usize].load(Relaxed)
    }

    pub(crate) fn accepted(&self, port: Port) -> u64 {
        self.ports[port as usize].accepted.load(Relaxed)
    }

    pub(crate) fn open(&self, port: Port) -> usize {
        self.ports[port as usize].open.load(Relaxed)
    }
}

impl Open {
    /// Counts the connection as this client's, unless it has too many.
    pub(crate) fn is_within_limit_of(&mut self, client: IpAddr) -> bool {
        let slots = self.connections.clients.slots(client);
        self.client = Some(slots);
        let within = self.connections.clients.add(slots) <= self.connections.max_per_client;
        if !within {
            self.count(Dropped::OverClientLimit);
        }
        within
    }

    pub(crate) fn count(&self, reason: Dropped) {
        self.connections.count(reason);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let connections = &self.connections;
        if let Some(slots) = self.client {
            connections.clients.remove(slots);
        }
        connections.ports[self.port as usize].open.fetch_sub(1, Relaxed);
        connections.all.fetch_sub(1, Relaxed);
    }
}

impl Port {
    pub(crate) const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Private];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Private => "private",
        }
    }
}

impl Dropped {
    pub(crate) const ALL: [Self; 8] = [
        Self::OverLimit,
        Self::OverClientLimit,
        Self::BadProxyHeader,
        Self::Handshake,
        Self::HandshakeTimeout,
        Self::HeaderTimeout,
        Self::HeaderTooLarge,
        Self::WriteTimeout,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OverLimit => "over_limit",
            Self::OverClientLimit => "over_client_limit",
            Self::BadProxyHeader => "bad_proxy_header",
            Self::Handshake => "handshake",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HeaderTimeout => "header_timeout",
            Self::HeaderTooLarge => "header_too_large",
            Self::WriteTimeout => "write_timeout",
        }
    }
}

const ROWS: usize = 2;
const SLOTS: usize = 1 << 15;

/// Open connections by client, in memory that does not grow with clients and without a lock: a
/// count-min sketch. A client is counted in one slot of each row, and the least of them counts. It
/// errs only to a client's disadvantage, and only if it shares both slots with clients that have
/// very many: the hash is keyed by chance, so that nobody can choose to.
#[derive(Debug)]
struct Clients {
    hash: RandomState,
    counters: Box<[AtomicUsize]>,
}

impl Clients {
    fn new() -> Self {
        let counters = (0..ROWS * SLOTS).map(|_| AtomicUsize::new(0)).collect();
        Self { hash: RandomState::new(), counters }
    }

    fn slots(&self, client: IpAddr) -> [usize; ROWS] {
        let hash = self.hash.hash_one(ClientKey::from(client)) as usize;
        [hash % SLOTS, SLOTS + (hash >> 32) % SLOTS]
    }

    /// How many the client has with this one.
    fn add(&self, slots: [usize; ROWS]) -> usize {
        slots
            .map(|slot| self.counters[slot].fetch_add(1, Relaxed) + 1)
            .into_iter()
            .min()
            .unwrap_or(0)
    }

    fn remove(&self, slots: [usize; ROWS]) {
        for slot in slots {
            self.counters[slot].fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(connections: &Arc<Connections>, client: &str) -> Option<Open> {
        let mut open = connections.admit(Port::Https)?;
        open.is_within_limit_of(client.parse().unwrap()).then_some(open)
    }

    #[test]
    fn a_client_over_its_limit_is_refused_and_nobody_else() {
        let connections = Arc::new(Connections::new(100, 2));
        for (clients, other) in [
            (["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], "192.0.2.2"),
            (["2001:db8::1", "2001:db8::ffff:1:2", "2001:db8::2"], "2001:db8:0:1::1"),
        ] {
            let first = open(&connections, clients[0]).unwrap();
            let _second = open(&connections, clients[1]).unwrap();
            assert!(open(&connections, clients[2]).is_none());
            assert!(open(&connections, other).is_some());
            drop(first);
            assert!(open(&connections, clients[2]).is_some());
        }
        assert_eq!(connections.dropped(Dropped::OverClientLimit), 2);
        assert_eq!(connections.open(Port::Https), 0);
    }

    #[test]
    fn what_is_over_the_limit_of_all_is_refused_until_one_leaves() {
        let connections = Arc::new(Connections::new(2, 100));
        let first = connections.admit(Port::Http).unwrap();
        let _second = connections.admit(Port::Https).unwrap();
        assert!(connections.admit(Port::Http).is_none());
        assert!(connections.admit(Port::Http).is_none());
        drop(first);
        assert!(connections.admit(Port::Http).is_some());
        assert_eq!(connections.dropped(Dropped::OverLimit), 2);
        assert_eq!((connections.accepted(Port::Http), connections.open(Port::Https)), (4, 1));
    }
}
