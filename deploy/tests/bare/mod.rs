//! What stands for a device where only its connection is looked at. Shared with the tests of the
//! tailnet.

use std::{net::SocketAddr, path::Path, sync::Arc};

use async_trait::async_trait;
use tokio::{io::copy, net::TcpListener};
use weir_config::HostName;
use weir_deploy::{About, Agent, Begin, Docker, Provider};

/// An agent whose engine is not there, and who listens to no control before the fifth.
pub(crate) struct Bare(Docker);

impl Bare {
    pub(crate) fn agent() -> Arc<dyn Agent> {
        Arc::new(Self(Docker::new(HostName::local(), Path::new("/none"), "")))
    }
}

#[async_trait]
impl Agent for Bare {
    fn provider(&self) -> &dyn Provider {
        &self.0
    }

    async fn begin(&self, begin: &Begin) -> Result<About, String> {
        match begin.epoch {
            0..5 => Err("of the past".to_owned()),
            _ => Ok(About { hostname: "bare".to_owned(), ..About::default() }),
        }
    }

    fn epoch(&self) -> u64 {
        5
    }
}

/// Sends back what it gets.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                copy(&mut read, &mut write).await
            });
        }
    });
    address
}
