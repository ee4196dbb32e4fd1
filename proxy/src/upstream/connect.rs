//! Connections that are not plain TCP from the first byte on.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::{
    Error, ErrorType, Result,
    connectors::l4::Connect,
    protocols::l4::{ext, socket::SocketAddr, stream::Stream, virt::VirtualSocketStream},
};
use tokio::io::AsyncWriteExt;

use super::upgrade::{Gate, GatedStream};

/// Connects for one request. TLS, if any, comes on top.
#[derive(Debug)]
pub(super) struct Dial {
    /// Of the PROXY protocol, which comes before everything else.
    pub(super) header: Option<Vec<u8>>,
    /// What bounds the instance's silence, if this connection is for a request that needs its own.
    pub(super) gate: Option<Arc<Gate>>,
}

#[async_trait]
impl Connect for Dial {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "not an IP address");
        };
        let mut tcp = ext::connect(address, None).await?;
        if let Some(header) = &self.header {
            // Some two hundred bytes fit into the buffer of a new socket: this does not wait.
            tcp.write_all(header).await.map_err(|error| {
                Error::because(ErrorType::ConnectError, "writing the PROXY header", error)
            })?;
        }
        Ok(match &self.gate {
            None => tcp.into(),
            Some(gate) => {
                VirtualSocketStream::new(Box::new(GatedStream::new(tcp, gate.clone()))).into()
            }
        })
    }
}
