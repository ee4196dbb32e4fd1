//! How the proxy reaches apps on devices, and they the proxy: by the connection that each device
//! makes to control.

use std::{io, net::SocketAddr};

use async_trait::async_trait;
use tokio::runtime::Handle;
use weir_config::{AppName, HostName};
use weir_control::Calls;
use weir_deploy::{Devices, Duplex};
use weir_proxy::{Dial, PrivateCalls, Tunnel};

/// The devices that are connected.
#[derive(Debug)]
pub(crate) struct Tunnels(pub(crate) Devices);

#[async_trait]
impl Dial for Tunnels {
    async fn dial(&self, device: &HostName, address: SocketAddr) -> io::Result<Tunnel> {
        Ok(Tunnel::new(self.0.dial(device, address).await?))
    }
}

/// What apps on devices ask of other apps, on the threads that carry requests.
#[derive(Debug)]
pub(crate) struct AppCalls {
    pub(crate) proxy: PrivateCalls,
    pub(crate) data_plane: Handle,
}

impl Calls for AppCalls {
    fn carry(&self, stream: Box<dyn Duplex>, from: SocketAddr, caller: AppName) {
        self.data_plane.spawn(self.proxy.clone().carry(Tunnel::new(stream), from, caller));
    }
}
