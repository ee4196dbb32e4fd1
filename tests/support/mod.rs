//! Drives the real program against the real engine.

// Each test binary uses its own part of this, and a panic is a failed test with a place.
#![allow(dead_code, unreachable_pub, clippy::needless_pass_by_value, clippy::unwrap_used)]

pub mod cdn;
pub mod device;
pub mod faulty_ca;
pub mod issued;
pub mod load;
pub mod pebble;
pub mod relay;
pub mod sink;
pub mod sse;
pub mod upstream;
pub mod websocket;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Far above anything that is waited for; a test that needs it all has failed.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub const BASE: &str = "weir.test";

/// In the state directory: whom the server trusts instead of those that the system does.
const AUTHORITIES: &str = "test-authorities.pem";

/// A running `weir serve` with a state directory of its own. When it is dropped the process is
/// killed and its containers are removed.
pub struct Weir {
    child: Child,
    /// The processes that took over, one from the other.
    successors: Mutex<Vec<u32>>,
    pub dir: Arc<tempfile::TempDir>,
    /// The state directory, as it is seen from here.
    pub state: PathBuf,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: String,
    token: String,
    log: Arc<Mutex<Vec<String>>>,
    /// Apps whose containers are to be removed.
    apps: Arc<Mutex<Vec<String>>>,
    args: Vec<String>,
}

impl Weir {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(args: &[&str]) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let args = args.iter().map(ToString::to_string).collect();
        Self::start_in(dir, args, Arc::default()).await
    }

    async fn start_in(
        dir: Arc<tempfile::TempDir>,
        args: Vec<String>,
        apps: Arc<Mutex<Vec<String>>>,
    ) -> Self {
        let child = command(dir.path(), &args).stdout(Stdio::piped()).spawn().unwrap();
        let state = dir.path().to_owned();
        Self::attend(child, dir, state, args, apps).await
    }

    /// One that trusts this authority, and no other, when it asks others by HTTPS.
    pub async fn start_trusting(authority: &str, args: &[&str]) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        fs::write(dir.path().join(AUTHORITIES), authority).unwrap();
        let args = args.iter().map(ToString::to_string).collect();
        Self::start_in(dir, args, Arc::default()).await
    }

    /// A server that is set up by the caller, apart from its state directory and ports.
    pub async fn start_set_up(set_up: impl FnOnce(&mut Command, &Path)) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mut command = command(dir.path(), &[]);
        set_up(&mut command, dir.path());
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let state = dir.path().to_owned();
        Self::attend(child, dir, state, Vec::new(), Arc::default()).await
    }

    /// A server whose state directory is a file system of its own, of so many bytes. It is mounted
    /// in a namespace, so that neither root is needed nor anything left behind.
    pub async fn start_on_small_disk(bytes: u64) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mount = format!("mount -t tmpfs -o size={bytes} tmpfs \"$WEIR_STATE_DIR\"");
        let script = format!("{mount} && exec \"$0\" serve");
        let serve = command(dir.path(), &[]);
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--user", "--map-root-user", "sh", "-c", &script]);
        unshare.arg(env!("CARGO_BIN_EXE_weir"));
        unshare.envs(serve.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let child = unshare.stdout(Stdio::piped()).spawn().unwrap();
        let state = format!("/proc/{}/root{}", child.id(), dir.path().display());
        Self::attend(child, dir, state.into(), Vec::new(), Arc::default()).await
    }

    /// Waits until a server that was started listens.
    async fn attend(
        mut child: Child,
        dir: Arc<tempfile::TempDir>,
        state: PathBuf,
        args: Vec<String>,
        apps: Arc<Mutex<Vec<String>>>,
    ) -> Self {
        provider();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn({
            let log = log.clone();
            move || lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line))
        });
        let address = async |message: &str| -> SocketAddr {
            let found = wait_for(message, async || {
                let log = log.lock().unwrap();
                let line = log.iter().find(|line| line.contains(message))?;
                let event: Value = serde_json::from_str(line).ok()?;
                event["address"].as_str()?.parse().ok()
            });
            found.await
        };
        let http = address("\"http listens\"").await;
        let https = address("\"https listens\"").await;
        let admin = format!("http://{}", address("the admin API listens").await);
        let token = fs::read_to_string(state.join("admin.token")).unwrap();
        Self {
            child,
            successors: Mutex::default(),
            dir,
            state,
            http,
            https,
            admin,
            token,
            log,
            apps,
            args,
        }
    }

    /// Where devices come in, if it was started with `--devices`.
    pub fn devices(&self) -> SocketAddr {
        let log = self.log.lock().unwrap();
        let line = log.iter().rev().find(|line| line.contains("devices may come"));
        let event: Value = serde_json::from_str(line.expect("--devices")).unwrap();
        event["address"].as_str().unwrap().parse().unwrap()
    }

    /// Ends the process as a crash would, and starts it again on the same state.
    pub async fn kill_and_restart(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let next = Self::start_in(self.dir.clone(), self.args.clone(), self.apps.clone());
        self.apps = Arc::default();
        next.await
    }

    /// Starts the server again that has ended, in the same way as [`Self::start`] does.
    pub async fn restart(&mut self) {
        // The containers are the next one's to remove.
        let apps = std::mem::take(&mut self.apps);
        *self = Self::start_in(self.dir.clone(), self.args.clone(), apps).await;
    }

    /// Starts a server on the state of one that has ended, with other arguments.
    pub async fn restart_with(mut former: Self, args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        let next = Self::start_in(former.dir.clone(), args, former.apps.clone());
        former.apps = Arc::default();
        next.await
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to end, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().unwrap()
    }

    /// The process that was started here.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that serves: after an upgrade another one.
    pub fn serving_pid(&self) -> u32 {
        fs::read_to_string(self.state.join("serve.lock")).unwrap().parse().unwrap()
    }

    /// Sends a signal, such as `TERM`, to the process that was started here.
    pub fn signal(&self, signal: &str) {
        let (signal, pid) = (format!("-{signal}"), self.pid().to_string());
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    }

    /// How the process that was started here ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until the process that was started here has ended.
    pub async fn end(&mut self) -> ExitStatus {
        wait_for("the process to end", async || self.ended()).await
    }

    /// Replaces the process by a new one; panics if that fails.
    pub fn upgrade(&self) {
        let upgraded = self.cli(&["upgrade"]);
        assert!(upgraded.status.success(), "{upgraded:?}\n{}", self.log());
        self.successors.lock().unwrap().push(self.serving_pid());
    }

    pub async fn ready(&self) {
        wait_for("the engine", async || {
            let answer = reqwest::get(format!("{}/readyz", self.admin)).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// The program's command line, talking to this server.
    pub fn cli(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(args)
            .env("WEIR_STATE_DIR", &self.state)
            .env("WEIR_URL", &self.admin)
            .output()
            .unwrap()
    }

    /// The command line with a text on its standard input.
    pub fn cli_with_input(&self, args: &[&str], input: &str) -> Output {
        let file = self.dir.path().join("input.yaml");
        fs::write(&file, input).unwrap();
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(args)
            .env("WEIR_STATE_DIR", &self.state)
            .env("WEIR_URL", &self.admin)
            .stdin(fs::File::open(&file).unwrap())
            .output()
            .unwrap()
    }

    /// A request to the admin API, by who may make it.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.admin);
        reqwest::Client::new().request(method.parse().unwrap(), url).bearer_auth(&self.token)
    }

    pub async fn api(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.request(method, path);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Makes an app and waits until it is settled.
    pub async fn put(&self, name: &str, spec: Value) -> Value {
        self.apps.lock().unwrap().push(name.to_owned());
        let body = json!({"kind": "App", "name": name, "spec": spec});
        let (status, answer) =
            self.api("PUT", &format!("/v1/apps/{name}?wait=60s"), Some(body)).await;
        assert!(status == 200 || status == 201, "{status}: {answer:#}");
        answer
    }

    /// Makes an app that takes requests; one that may sleep soon may do so before this is told.
    pub async fn put_ready(&self, name: &str, spec: Value) -> Value {
        let app = self.put(name, spec).await;
        let phase = app["status"]["phase"].as_str().unwrap();
        assert!(["ready", "paused", "stopped"].contains(&phase), "{app:#}\n{}", self.log());
        app
    }

    /// Notes that an app was made by other means, so that its containers are removed.
    pub fn adopt(&self, name: &str) {
        self.apps.lock().unwrap().push(name.to_owned());
    }

    pub async fn phase(&self, name: &str) -> String {
        let (_, app) = self.api("GET", &format!("/v1/apps/{name}"), None).await;
        app["status"]["phase"].as_str().unwrap_or("none").to_owned()
    }

    pub async fn wait_for_phase(&self, name: &str, phase: &str) {
        wait_for(&format!("{name} to be {phase}"), async || {
            (self.phase(name).await == phase).then_some(())
        })
        .await;
    }

    /// A client that trusts this server's authority only, and knows where its apps are.
    pub fn client(&self) -> reqwest::Client {
        self.client_builder().build().unwrap()
    }

    pub fn client_builder(&self) -> reqwest::ClientBuilder {
        provider();
        let pem = fs::read(self.state.join("ca.pem")).unwrap();
        let authority = reqwest::Certificate::from_pem(&pem).unwrap();
        let mut client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let apps = self.apps.lock().unwrap().clone();
        for app in apps.iter().map(String::as_str).chain(["unknown"]) {
            client = client.resolve(&format!("{app}.{BASE}"), self.https);
        }
        client
    }

    pub fn url(&self, app: &str, path: &str) -> String {
        format!("https://{app}.{BASE}:{}{path}", self.https.port())
    }

    /// GETs a path of an app; the status and the text.
    pub async fn get(&self, app: &str, path: &str) -> (u16, String) {
        let answer = self.client().get(self.url(app, path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn metrics(&self) -> String {
        reqwest::get(format!("{}/metrics", self.admin)).await.unwrap().text().await.unwrap()
    }

    /// Everything logged so far, for the message of a failed assertion.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // They may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for successor in self.successors.lock().unwrap().iter().map(u32::to_string) {
            let _ = Command::new("kill").args(["-KILL", &successor]).stderr(Stdio::null()).status();
        }
        for app in self.apps.lock().unwrap().iter() {
            remove_containers(app);
        }
    }
}

/// `weir serve` on ports of the system's choice.
pub fn command(dir: &Path, args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("serve").env("WEIR_STATE_DIR", dir).env("WEIR_BASE_DOMAIN", BASE);
    for listener in ["WEIR_HTTP", "WEIR_HTTPS", "WEIR_ADMIN"] {
        command.env(listener, "127.0.0.1:0");
    }
    let authorities = dir.join(AUTHORITIES);
    if authorities.exists() {
        command.env("SSL_CERT_FILE", authorities);
    }
    command.args(args).stderr(Stdio::inherit());
    command
}

/// Waits until something is there.
pub async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A name that no other test uses, now or in a run before.
pub fn unique(name: &str) -> String {
    format!("{name}-{:06x}", rand::random::<u32>() & 0xff_ffff)
}

/// The tests' web app as an image of the engine.
pub fn image() -> String {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE
        .get_or_init(|| {
            let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/test-image");
            let made = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
            assert!(made.status.success(), "scripts/test-image failed");
            String::from_utf8(made.stdout).unwrap().trim().to_owned()
        })
        .clone()
}

/// A spec of the tests' web app, with fields added or replaced.
pub fn spec(fields: Value) -> Value {
    let mut spec = json!({
        "image": image(),
        "health": {"type": "http", "path": "/healthz", "interval": "200ms"},
    });
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

pub fn provider() {
    // Only the first of a process can be installed, and any is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The containers of an app: name → state, as the engine tells.
pub fn containers(app: &str) -> BTreeMap<String, String> {
    let filter = format!("label=weir.app={app}");
    let list = docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}} {{.State}}"]);
    list.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, state)| (name.to_owned(), state.to_owned()))
        .collect()
}

/// Of an app with one container: its identity and when its process began.
pub fn incarnation(app: &str) -> String {
    let filter = format!("label=weir.app={app}");
    let id = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
    assert_eq!(id.lines().count(), 1, "one container of {app}: {id}");
    docker(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}", &id])
}

fn remove_containers(app: &str) {
    let filter = format!("label=weir.app={app}");
    let listed = Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output();
    let ids = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for id in ids.unwrap_or_default().lines() {
        let _ = Command::new("docker").args(["rm", "--force", id]).output();
    }
}
