//! How the proxy reaches apps on devices: by the connection that each device makes to control.

use std::{io, net::SocketAddr};

use async_trait::async_trait;
use weir_config::HostName;
use weir_deploy::Devices;
use weir_proxy::{Dial, Tunnel};

/// The devices that are connected.
#[derive(Debug)]
pub(crate) struct Tunnels(pub(crate) Devices);

#[async_trait]
impl Dial for Tunnels {
    async fn dial(&self, device: &HostName, address: SocketAddr) -> io::Result<Tunnel> {
        Ok(Tunnel::new(self.0.dial(device, address).await?))
    }
}
