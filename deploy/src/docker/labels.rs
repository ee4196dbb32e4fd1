//! The labels by which a container is known to be ours, and what for.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use weir_config::{HostName, InstanceId, Template};

use crate::provider::ContainerSpec;

pub(crate) const CLUSTER: &str = "weir.cluster";
pub(crate) const TEMPLATE: &str = "weir.template";
const APP: &str = "weir.app";
const DEPLOYMENT: &str = "weir.deployment";
const ORDINAL: &str = "weir.ordinal";
const PORT: &str = "weir.port";

pub(crate) type Labels = HashMap<String, String>;

/// What is written on a container that is made.
pub(crate) fn write(cluster: &str, spec: &ContainerSpec, template: &str) -> Labels {
    let instance = &spec.instance;
    let labels = [
        (CLUSTER, cluster.to_owned()),
        (APP, instance.app.to_string()),
        (DEPLOYMENT, instance.deployment.to_string()),
        (ORDINAL, instance.ordinal.to_string()),
        (PORT, spec.template.port.to_string()),
        (TEMPLATE, template.to_owned()),
    ];
    labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The instance that a container of ours belongs to; `None` if somebody changed the labels.
pub(crate) fn instance(labels: &Labels, host: &HostName) -> Option<InstanceId> {
    Some(InstanceId {
        app: labels.get(APP)?.parse().ok()?,
        deployment: labels.get(DEPLOYMENT)?.parse().ok()?,
        ordinal: labels.get(ORDINAL)?.parse().ok()?,
        host: host.clone(),
    })
}

pub(crate) fn port(labels: &Labels) -> Option<u16> {
    labels.get(PORT)?.parse().ok()
}

/// Equal for equal templates, in every process of one version of Weir.
pub(crate) fn fingerprint(template: &Template) -> Result<String, serde_json::Error> {
    let digest = Sha256::digest(serde_json::to_vec(template)?);
    Ok(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}
