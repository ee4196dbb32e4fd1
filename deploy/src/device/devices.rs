//! The devices that are connected at this moment.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::watch, time::timeout};
use weir_config::HostName;

use super::{link::Link, wire::Begin};
use crate::transport::Duplex;

/// Who is connected, for those who have something to ask of a device. Looking one up takes no lock.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Devices {
    links: Arc<ArcSwap<imbl::OrdMap<HostName, Link>>>,
    changed: watch::Sender<()>,
    /// What drives the connections: requests of apps go over them.
    runtime: Handle,
}

impl Devices {
    /// Nobody is connected yet; connections will be driven by `runtime`.
    pub fn new(runtime: Handle) -> Self {
        Self { links: Arc::default(), changed: watch::Sender::new(()), runtime }
    }

    /// Begins on a connection of a device that TLS has made sure of.
    ///
    /// # Errors
    /// The device does not answer, or refuses this control as one of the past.
    pub async fn begin(&self, stream: impl Duplex + 'static, begin: &Begin) -> io::Result<Link> {
        Link::open(stream, begin, &self.runtime).await
    }

    /// Reaches a device by a connection until that ends. Of two connections of one device the newer
    /// one is used, and the other one closed: a device that connects again has lost the former one.
    pub async fn attend(&self, device: &HostName, link: Link) {
        let former = self.links.rcu(|links| links.update(device.clone(), link.clone()));
        if let Some(former) = former.get(device) {
            former.close();
        }
        self.changed.send_replace(());
        link.ended().await;
        self.links.rcu(|links| match links.get(device) {
            Some(present) if present.is_same_as(&link) => links.without(device),
            _ => imbl::OrdMap::clone(links),
        });
        self.changed.send_replace(());
    }

    /// Closes the connection of a device, if it has one.
    pub fn disconnect(&self, device: &HostName) {
        if let Some(link) = self.link(device) {
            link.close();
        }
    }

    /// Tells all of them to connect anew, and by now only to carry requests here: another process
    /// takes over, or will.
    pub async fn send_away(&self) {
        let links = self.links.load_full();
        let told = links.values().map(Link::send_away);
        futures::future::join_all(told).await;
    }

    /// Whether a device is connected.
    pub fn is_connected(&self, device: &HostName) -> bool {
        self.links.load().contains_key(device)
    }

    /// Connects to an address as it is seen from a device.
    ///
    /// # Errors
    /// The device is not connected, or nothing listens there.
    pub async fn dial(
        &self,
        device: &HostName,
        address: SocketAddr,
    ) -> io::Result<Box<dyn Duplex>> {
        match self.link(device) {
            Some(link) => link.dial(address).await,
            None => Err(io::Error::new(io::ErrorKind::NotConnected, NOT_CONNECTED)),
        }
    }

    /// The connection of a device, if it has one.
    pub fn link(&self, device: &HostName) -> Option<Link> {
        self.links.load().get(device).cloned()
    }

    /// The connection of a device, now or within a time.
    pub(super) async fn link_within(&self, device: &HostName, limit: Duration) -> Option<Link> {
        let mut changed = self.changed.subscribe();
        let connected = async {
            loop {
                if let Some(link) = self.link(device) {
                    return link;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(limit, connected).await.ok()
    }
}

pub(super) const NOT_CONNECTED: &str = "the device is not connected";
