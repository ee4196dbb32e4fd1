//! Connections that are not plain TCP from the first byte on.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, Result,
    connectors::l4::Connect,
    protocols::l4::{
        ext, socket::SocketAddr as Address, stream::Stream, virt::VirtualSocketStream,
    },
};
use tokio::io::AsyncWriteExt;
use weir_config::{HostName, ProxyProtocol};

use super::{
    gate::{Gate, GatedStream},
    line::{Dial, Line},
    proxy_protocol,
};

/// Connects for one request. TLS, if any, comes on top.
#[derive(Debug)]
pub(super) struct Connector {
    /// The device that the instance is on, if it is reached through that.
    pub(super) device: Option<(Arc<dyn Dial>, HostName)>,
    /// The version of the PROXY protocol, whose header comes before everything else.
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    /// The client that the header tells of, and the address that it connected to.
    pub(super) client: Option<(SocketAddr, SocketAddr)>,
    /// What bounds the instance's silence, if this connection is for a request that needs its own.
    pub(super) gate: Option<Arc<Gate>>,
}

#[async_trait]
impl Connect for Connector {
    async fn connect(&self, address: &Address) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "not an IP address");
        };
        let mut line = match &self.device {
            None => Line::Tcp(ext::connect(address, None).await?),
            Some((devices, device)) => {
                let tunnel = devices.dial(device, *address).await;
                Line::Tunnel(tunnel.map_err(|error| {
                    Error::because(ErrorType::ConnectError, "through its device", error)
                })?)
            }
        };
        if let Some(version) = self.proxy_protocol {
            let header = proxy_protocol::header(version, self.client).map_err(|error| {
                Error::because(ErrorType::InternalError, "making the PROXY header", error)
            })?;
            // Some two hundred bytes fit into the buffer of a new socket: this does not wait.
            line.write_all(&header).await.map_err(|error| {
                Error::because(ErrorType::ConnectError, "writing the PROXY header", error)
            })?;
        }
        Ok(match (&self.gate, line) {
            (None, Line::Tcp(tcp)) => tcp.into(),
            (None, tunnel) => VirtualSocketStream::new(Box::new(tunnel)).into(),
            (Some(gate), line) => {
                VirtualSocketStream::new(Box::new(GatedStream::new(line, gate.clone()))).into()
            }
        })
    }
}
