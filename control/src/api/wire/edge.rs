//! What is where, and the calls of an orchestrator of devices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_deploy::About;

use super::{DeviceState, Phase};

/// An app, where it runs, and by which names it is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiscoveredApp {
    pub app: String,
    pub phase: Phase,
    /// Where everybody reaches it.
    pub url: String,
    /// Where the apps that it allows reach it, from devices; left out if it allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_url: Option<String>,
    /// The apps that may call it by its private name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Of an app that is an image.
    pub places: Vec<Place>,
}

/// One instance, where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    pub instance: String,
    pub host: String,
    /// Whether the host is a device.
    pub device: bool,
    /// `unknown`, `ready`, `suspect`, `disconnected` or `lost`.
    pub host_state: String,
    pub state: String,
    /// As it is seen from its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// A container that is to run on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployToEdge {
    pub device: String,
    pub image: String,
    /// What it is called from then on; left out, as the image is.
    #[serde(default)]
    pub name: Option<String>,
    /// On which it listens for HTTP; 8080 if left out.
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// How a device is, and what runs there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EdgeHealth {
    pub device: String,
    /// Whether it is connected and its engine answers.
    pub healthy: bool,
    pub state: DeviceState,
    /// That of its host: `unknown`, `ready`, `suspect`, `disconnected` or `lost`.
    pub host_state: String,
    pub about: About,
    pub containers: Vec<EdgeContainer>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EdgeContainer {
    /// The app's name, by which the other calls know it.
    pub name: String,
    pub instance: String,
    pub state: String,
    pub restarts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
