//! Which way this device takes to control.

use std::{fmt, io, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use weir_deploy::{Network, TailnetOptions, Transport};

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
            Self::Tailnet { hostname, control_url } => {
                let options = TailnetOptions {
                    hostname: hostname.clone(),
                    auth_key,
                    control_url: control_url.clone(),
                    key_file: dir.join("tailnet.json"),
                };
                options.transport().await
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
