//! A tailnet on one machine without a network: a control server and a relay that real Tailscale
//! devices of the `tailscale` crate register with and talk through.
//!
//! It is for tests: it knows one key that lets devices in, everybody sees everybody, and nothing
//! is kept. Devices need the features `insecure-keyfetch` and `insecure-derp` of `ts_control`,
//! because the control server speaks plain HTTP and the relay's certificate is its own.

mod control;
mod noise;
mod relay;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::JoinSet};

/// The domain in which devices have their names.
pub const DOMAIN: &str = "tailnet.test";

/// A running tailnet. It ends when it is dropped.
#[derive(Debug)]
pub struct Tailnet {
    control: SocketAddr,
    auth_key: String,
    #[expect(dead_code, reason = "ends the servers when dropped")]
    servers: JoinSet<()>,
}

impl Tailnet {
    /// Listens at the loopback address.
    pub async fn start() -> io::Result<Self> {
        Self::start_at([127, 0, 0, 1].into()).await
    }

    /// Listens at an address that the devices reach.
    pub async fn start_at(address: std::net::Ipv4Addr) -> io::Result<Self> {
        let relay = TcpListener::bind((address, 0)).await?;
        let control = TcpListener::bind((address, 0)).await?;
        let auth_key = format!("tskey-auth-{:016x}", std::process::id());
        let state = control::State::new(relay.local_addr()?, auth_key.clone());
        let control_address = control.local_addr()?;
        let mut servers = JoinSet::new();
        servers.spawn(relay::serve(relay));
        servers.spawn(control::serve(control, Arc::new(state)));
        Ok(Self { control: control_address, auth_key, servers })
    }

    /// The URL that devices are given as their control server's.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// The key that lets a device in.
    pub fn auth_key(&self) -> &str {
        &self.auth_key
    }
}
