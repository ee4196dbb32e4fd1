//! Making an instance's container from its template.

use std::time::Duration;

use bollard::{
    errors::Error,
    models::{
        ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigLogConfig,
        ImageInspect, PortBinding, PortMap, RestartPolicy as Restart,
        RestartPolicyNameEnum as RestartName,
    },
    query_parameters::{CreateContainerOptions, CreateImageOptions},
};
use futures::TryStreamExt;
use weir_config::{AppName, InstanceId, PortMapping, RestartPolicy, Secrets, Template, Volume};

use super::{
    CALL, Docker,
    errors::Failure,
    labels::{self, Labels},
    look::labels_of,
};
use crate::provider::{Container, ContainerSpec, ContainerState, ProviderError};

/// An image of some gigabytes over a slow line.
const PULL: Duration = Duration::from_secs(10 * 60);
/// The name may be taken between looking and creating, but not every time.
const TRIES: usize = 3;
/// A container that writes without end must not fill the host's disk.
const LOG_SIZE: &str = "10m";
const LOG_FILES: &str = "3";

impl Docker {
    pub(crate) async fn make(
        &self,
        spec: &ContainerSpec,
        secrets: &Secrets,
    ) -> Result<(), ProviderError> {
        let template = labels::fingerprint(&spec.template)
            .map_err(|error| ProviderError::Refused(error.to_string()))?;
        let name = spec.instance.container_name();
        let mut conflict = String::new();
        for _ in 0..TRIES {
            let stale = match self.inspect_raw(&name).await? {
                Some(found) if !self.is_ours(&found) => {
                    return Err(ProviderError::NameTaken { name, owner: owner(&found) });
                }
                Some(found) if self.is_made_from(&found, &template) => return Ok(()),
                found => found,
            };
            // Before the old one goes, so that a missing image costs nothing that ran.
            let image = self.image(&spec.template.image).await?;
            if let Some(id) = stale.and_then(|stale| stale.id) {
                self.remove_id(&id).await?;
            }
            let labels = labels::write(&self.cluster, spec, &template);
            let body = self.body(spec, secrets, &image, labels);
            match self.create_named(&name, body).await {
                Err(Failure::Refused { status: 409, message }) => conflict = message,
                Err(Failure::Refused { status: 404, message })
                    if message.to_lowercase().contains("image") =>
                {
                    return Err(no_image(&spec.template.image, &message));
                }
                done => return Ok(done?),
            }
        }
        Err(ProviderError::Refused(conflict))
    }

    /// Whether a container of ours is what would be made now, and can be used.
    fn is_made_from(&self, found: &ContainerInspectResponse, template: &str) -> bool {
        let is_dead = |found: Container| found.state == ContainerState::Dead;
        let label = labels_of(found).and_then(|labels| labels.get(labels::TEMPLATE));
        self.container(found).is_some_and(|found| !is_dead(found))
            && label.is_some_and(|t| t == template)
    }

    fn body(
        &self,
        spec: &ContainerSpec,
        secrets: &Secrets,
        image: &ImageInspect,
        labels: Labels,
    ) -> ContainerCreateBody {
        let template = &*spec.template;
        let published = template.ports.iter().map(port_key);
        let port = format!("{}/tcp", template.port);
        let mut host_config = host_config(template, image);
        if let Some(address) = self.address {
            // At a port of the engine's choice.
            let binding = PortBinding { host_ip: Some(address.to_string()), host_port: None };
            let bindings = host_config.port_bindings.get_or_insert_default();
            bindings.entry(port.clone()).or_default().get_or_insert_default().push(binding);
        }
        ContainerCreateBody {
            image: Some(template.image.clone()),
            cmd: (!template.command.is_empty()).then(|| template.command.clone()),
            env: Some(env(template, secrets)),
            exposed_ports: Some(published.chain([port]).collect()),
            labels: Some(labels),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        }
    }

    async fn create_named(&self, name: &str, body: ContainerCreateBody) -> Result<(), Failure> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let request = async |client: bollard::Docker| {
            client.create_container(Some(options), body).await.map(drop)
        };
        self.call("create", CALL, request).await
    }

    /// The image, pulled if it is not here.
    async fn image(&self, image: &str) -> Result<ImageInspect, ProviderError> {
        let pull = match self.inspect_image(image).await {
            // 400 is what a name gets that no image can have; the pull says why.
            Err(Failure::Refused { status: 400 | 404, .. }) => self.pull(image).await,
            known => return Ok(known?),
        };
        match pull {
            Err(Failure::Refused { message, .. }) => Err(no_image(image, &message)),
            Err(failure) => Err(failure.into()),
            Ok(()) => Ok(self.inspect_image(image).await?),
        }
    }

    /// The exact name of the image that the instance's container was made from.
    pub(crate) async fn image_of(&self, instance: &InstanceId) -> Result<String, ProviderError> {
        let found = self.inspect_raw(&instance.container_name()).await?;
        let id = found.filter(|found| self.is_ours(found)).and_then(|found| found.image);
        let id = id.ok_or_else(|| ProviderError::NoContainer(instance.clone()))?;
        match self.inspect_image(&id).await {
            Ok(image) => {
                Ok(image.repo_digests.unwrap_or_default().into_iter().next().unwrap_or(id))
            }
            // Its name may be gone; its containers keep what it is.
            Err(Failure::Refused { status: 404, .. }) => Ok(id),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn inspect_image(&self, image: &str) -> Result<ImageInspect, Failure> {
        let request = async |client: bollard::Docker| client.inspect_image(image).await;
        self.call("inspect image", CALL, request).await
    }

    async fn pull(&self, image: &str) -> Result<(), Failure> {
        let options = CreateImageOptions {
            from_image: Some(with_tag(image)),
            ..CreateImageOptions::default()
        };
        let request = async |client: bollard::Docker| {
            let progress = client.create_image(Some(options), None, None);
            progress.try_for_each(async |_| Ok::<(), Error>(())).await
        };
        tracing::info!(image, "pulling an image");
        self.call("pull", PULL, request).await
    }
}

fn no_image(image: &str, message: &str) -> ProviderError {
    let reason =
        format!("it is not on this host, and it could not be pulled from its registry: {message}");
    ProviderError::Image { image: image.to_owned(), reason }
}

/// The engine pulls every tag of an image that is named without one.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn owner(found: &ContainerInspectResponse) -> String {
    match labels_of(found).and_then(|labels| labels.get(labels::CLUSTER)) {
        Some(cluster) => format!("another Weir (cluster {cluster})"),
        None => "a container that Weir did not make".to_owned(),
    }
}

/// An app that asks no further listens where the proxy looks for it.
fn env(template: &Template, secrets: &Secrets) -> Vec<String> {
    let given = template.env.iter().map(|(key, value)| format!("{key}={value}"));
    let secret = secrets.iter().map(|(key, value)| format!("{key}={}", value.expose()));
    let has_port = template.env.contains_key("PORT") || secrets.contains_key("PORT");
    let port = (!has_port).then(|| format!("PORT={}", template.port));
    given.chain(secret).chain(port).collect()
}

fn host_config(template: &Template, image: &ImageInspect) -> HostConfig {
    let resources = &template.resources;
    let memory = resources.memory.map(|bytes| bytes as i64);
    HostConfig {
        nano_cpus: resources.millicpus.map(|millis| i64::from(millis) * 1_000_000),
        memory,
        // Memory and swap together: an app at its limit dies instead of making the host crawl.
        memory_swap: memory,
        pids_limit: Some(i64::from(resources.pids)),
        binds: Some(template.volumes.iter().map(bind).collect()),
        port_bindings: Some(port_bindings(&template.ports)),
        restart_policy: Some(restart(template.restart)),
        log_config: Some(log_config()),
        init: Some(wants_init(template, image)),
        // At the bridge's own address an agent takes their calls.
        extra_hosts: (!template.calls.is_empty())
            .then(|| template.calls.iter().map(private_name).collect()),
        ..HostConfig::default()
    }
}

/// Whether the engine should put its own small init before the app. Without one, an app that does
/// not handle SIGTERM is deaf to it as process 1 and every stop takes the whole grace, and the dead
/// children it does not wait for count as processes for ever. An image that brings an init (s6,
/// systemd, tini) keeps it: some of them refuse to be anything but process 1.
fn wants_init(template: &Template, image: &ImageInspect) -> bool {
    let config = image.config.as_ref();
    let entrypoint = config.and_then(|config| config.entrypoint.as_ref()?.first());
    let cmd = config.and_then(|config| config.cmd.as_ref()?.first());
    let first = entrypoint.or_else(|| template.command.first()).or(cmd);
    let program = first.map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    !(program.ends_with("init") || matches!(program, "tini" | "systemd" | "s6-svscan"))
}

fn private_name(app: &AppName) -> String {
    format!("{}:host-gateway", app.private_hostname())
}

fn bind(volume: &Volume) -> String {
    let mode = if volume.read_only { "ro" } else { "rw" };
    format!("{}:{}:{mode}", volume.source, volume.target)
}

fn port_bindings(ports: &[PortMapping]) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: port.address.map(|address| address.to_string()),
            host_port: Some(port.host.to_string()),
        };
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

fn port_key(port: &PortMapping) -> String {
    format!("{}/{}", port.container, if port.udp { "udp" } else { "tcp" })
}

fn restart(policy: RestartPolicy) -> Restart {
    let name = match policy {
        // Not `always`: what we stopped must not come back when the engine is restarted.
        RestartPolicy::Always => RestartName::UNLESS_STOPPED,
        RestartPolicy::OnFailure => RestartName::ON_FAILURE,
        RestartPolicy::Never => RestartName::NO,
    };
    Restart { name: Some(name), maximum_retry_count: None }
}

fn log_config() -> HostConfigLogConfig {
    let config = [("max-size", LOG_SIZE), ("max-file", LOG_FILES)];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(config.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_pulled_with_the_default_one() {
        for (written, pulled) in [
            ("nginx", "nginx:latest"),
            ("nginx:1.27", "nginx:1.27"),
            ("registry:5000/team/app", "registry:5000/team/app:latest"),
            ("registry:5000/team/app:2", "registry:5000/team/app:2"),
            ("nginx@sha256:abc", "nginx@sha256:abc"),
        ] {
            assert_eq!(with_tag(written), pulled);
        }
    }
}
