//! Which way this device takes to control.

use std::{fmt, io, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use weir_deploy::{Network, Transport};

/// Chosen when the device is enrolled, and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// As the system's network goes, of which a `tailscaled` may be part.
    Network,
    /// A Tailscale inside this process.
    Tailnet {
        hostname: String,
        /// The server that runs the tailnet; `None` for Tailscale's own.
        control_url: Option<String>,
    },
}

impl Way {
    /// Makes the way ready. `auth_key` lets in a device that is not known in the tailnet yet.
    pub(crate) async fn open(
        &self,
        dir: &Path,
        auth_key: Option<String>,
    ) -> io::Result<Arc<dyn Transport>> {
        match self {
            Self::Network => Ok(Arc::new(Network)),
            #[cfg(feature = "tailnet")]
            Self::Tailnet { hostname, control_url } => {
                let options = weir_deploy::TailnetOptions {
                    hostname: hostname.clone(),
                    auth_key,
                    control_url: control_url.clone(),
                    key_file: dir.join("tailnet.json"),
                };
                Ok(Arc::new(weir_deploy::Tailnet::join(&options).await?))
            }
            #[cfg(not(feature = "tailnet"))]
            Self::Tailnet { .. } => {
                let _ = (dir, auth_key);
                let why = "this agent was built without a Tailscale of its own; run tailscaled";
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("by the network"),
            Self::Tailnet { hostname, .. } => write!(f, "by the tailnet, as {hostname}"),
        }
    }
}
