//! One test's own corner of the engine: a cluster, an app and an image, removed at the end.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::query_parameters::{
    CreateImageOptions, ListContainersOptions, RemoveContainerOptions, RemoveImageOptions,
    RemoveVolumeOptions,
};
use futures::{StreamExt, TryStreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};
use weir_config::{AppName, HostName, InstanceId, Resources, RestartPolicy, Secrets, Template};
use weir_deploy::{
    Container, ContainerSpec, ContainerState, Docker, LogLine, Provider, ProviderError, Stream,
};

/// Nothing here takes as long as this on an engine that works.
const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const GRACE: Duration = Duration::from_secs(20);
pub(crate) const PORT: u16 = 8080;
/// Serves until it is told to end, and then says so with its exit code.
pub(crate) const SERVE: &str =
    "trap 'exit 7' TERM; httpd -h / -p $PORT; while :; do sleep 0.05; done";
pub(crate) const SERVE_ENDED: ContainerState =
    ContainerState::Exited { code: 7, out_of_memory: false };

pub(crate) struct World {
    pub(crate) docker: Docker,
    /// The engine itself, to look behind the provider's back.
    pub(crate) raw: bollard::Docker,
    pub(crate) cluster: String,
    pub(crate) app: AppName,
    pub(crate) image: String,
    /// What is left of it when a test takes its name away.
    image_id: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_image(&[]).await
    }

    /// A world whose image is changed by these lines of a Dockerfile.
    pub(crate) async fn with_image(changes: &[&str]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let unique = format!("t{:x}-{:x}", std::process::id(), now);
        let docker = Docker::new(HostName::local(), &socket(), &unique);
        if let Err(error) = docker.info().await {
            panic!("this test needs a Docker Engine; start dockerd or set DOCKER_HOST: {error}");
        }
        let raw = client();
        let image = format!("weir-test:{unique}");
        let image_id = import(&raw, &image, changes).await;
        let app = unique.parse().unwrap();
        Self { docker, raw, cluster: unique, app, image, image_id }
    }

    pub(crate) fn instance(&self, deployment: u64) -> InstanceId {
        InstanceId { app: self.app.clone(), deployment, ordinal: 0, host: HostName::local() }
    }

    /// A template that runs a line of shell.
    pub(crate) fn template(&self, script: &str) -> Template {
        Template {
            image: self.image.clone(),
            port: PORT,
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: Default::default(),
            secrets: Default::default(),
            volumes: Vec::new(),
            ports: Vec::new(),
            resources: Resources { millicpus: None, memory: None, pids: 64 },
            restart: RestartPolicy::Never,
            calls: Vec::new(),
        }
    }

    pub(crate) fn spec(&self, deployment: u64, template: Template) -> ContainerSpec {
        ContainerSpec { instance: self.instance(deployment), template: Arc::new(template) }
    }

    /// Creates and starts deployment 1.
    pub(crate) async fn run(&self, template: Template) -> InstanceId {
        let spec = self.spec(1, template);
        self.docker.create(&spec, &Secrets::new()).await.unwrap();
        self.docker.start(&spec.instance).await.unwrap();
        spec.instance
    }

    pub(crate) async fn container(&self, instance: &InstanceId) -> Container {
        self.docker.inspect(instance).await.unwrap().unwrap()
    }

    pub(crate) async fn state(&self, instance: &InstanceId) -> ContainerState {
        self.container(instance).await.state
    }

    pub(crate) async fn ended(&self, instance: &InstanceId) -> ContainerState {
        eventually("the container's end", async || {
            let state = self.state(instance).await;
            matches!(state, ContainerState::Exited { .. }).then_some(state)
        })
        .await
    }

    /// The engine's own account of the instance's container.
    pub(crate) async fn raw_container(
        &self,
        instance: &InstanceId,
    ) -> bollard::models::ContainerInspectResponse {
        let name = instance.container_name();
        let options = None::<bollard::query_parameters::InspectContainerOptions>;
        self.raw.inspect_container(&name, options).await.unwrap()
    }
}

impl Drop for World {
    /// Also after a panic, and then the runtime is no longer to be relied on.
    fn drop(&mut self) {
        let (app, image) = (self.app.clone(), self.image_id.clone());
        behind_our_back(async move || clean(&app, &image).await).ok();
    }
}

/// Whatever a test made has its app's name in its own.
async fn clean(app: &str, image: &str) {
    let engine = client();
    let filters = HashMap::from([("name".to_owned(), vec![app.to_owned()])]);
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    for container in engine.list_containers(Some(options)).await.unwrap_or_default() {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        engine.remove_container(&container.id.unwrap_or_default(), Some(options)).await.ok();
    }
    engine.remove_volume(app, Some(RemoveVolumeOptions { force: true })).await.ok();
    let options = RemoveImageOptions { force: true, ..Default::default() };
    engine.remove_image(image, Some(options), None).await.ok();
}

pub(crate) fn socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "/var/run/docker.sock".to_owned());
    PathBuf::from(host.strip_prefix("unix://").unwrap_or(&host))
}

pub(crate) fn client() -> bollard::Docker {
    let socket = socket();
    bollard::Docker::connect_with_unix(
        socket.to_str().unwrap(),
        DEADLINE.as_secs(),
        bollard::API_DEFAULT_VERSION,
    )
    .unwrap_or_else(|error| panic!("this test needs a Docker Engine: {error}"))
}

/// Does something on the engine while this thread, and all that it runs, waits.
pub(crate) fn behind_our_back<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> std::thread::Result<T> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(work())
    };
    std::thread::spawn(run).join()
}

/// Makes an image of one layer, and returns the engine's identity of it.
async fn import(engine: &bollard::Docker, image: &str, changes: &[&str]) -> String {
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(image.to_owned()),
        changes: changes.iter().map(|line| (*line).to_owned()).collect(),
        ..CreateImageOptions::default()
    };
    let body = bollard::body_full(root_file_system().into());
    let progress = engine.create_image(Some(options), Some(body), None);
    progress.try_collect::<Vec<_>>().await.unwrap();
    engine.inspect_image(image).await.unwrap().id.unwrap()
}

/// A tar of a busybox and the few names that the tests call it by.
fn root_file_system() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name(Path::new("/bin/busybox"), "bin/busybox")
        .expect("the tests' image is made from Debian's package busybox-static");
    for name in ["sh", "cat", "echo", "env", "head", "httpd", "sleep", "tail", "touch", "tr", "yes"]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until an HTTP server answers there.
pub(crate) async fn answers(address: IpAddr, port: u16) {
    eventually("an answer over HTTP", async || get((address, port).into()).await).await;
}

async fn get(address: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.starts_with("HTTP/").then_some(())
}

pub(crate) async fn within_deadline<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let limited = tokio::time::timeout(DEADLINE, wait).await;
    limited.unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain for {what}"))
}

/// All that a stream holds, to its end.
pub(crate) async fn texts(stream: Stream<LogLine>) -> Vec<String> {
    let lines: Vec<Result<LogLine, ProviderError>> =
        within_deadline("the end of the logs", stream.collect()).await;
    lines.into_iter().map(|line| line.unwrap().text).collect()
}
