//! `weir serve`: reads the settings, puts the parts together, and runs them until it is told to
//! stop. It decides nothing.

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use weir_config::{Activity, LogFormat, Settings, SettingsSpec, Snapshot, Span, channel};
use weir_control::{Control, Options, StateDir};
use weir_deploy::Docker;
use weir_proxy::{AccessLogGuard, Proxy, ProxyOptions};

use crate::{logging, paths, ports};

/// Run the proxy and its control loop.
///
/// Needs no settings: state is kept in a directory, and a local certificate authority makes HTTPS
/// work from the first start. Flags win over the environment, the environment over the file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir serve
  weir serve --base-domain apps.example.com --config /etc/weir.yaml
  weir serve --http 127.0.0.1:8080 --https 127.0.0.1:8443 --state-dir ./state")]
pub(crate) struct ServeArgs {
    /// A settings file (YAML) with these names, as `base_domain`; unknown keys are errors
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where state is kept [default: /var/lib/weir for root, else ~/.local/state/weir]
    #[arg(long, env = "WEIR_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Every app is served at NAME.DOMAIN [default: weir.localhost]
    #[arg(long, env = "WEIR_BASE_DOMAIN", value_name = "DOMAIN")]
    base_domain: Option<String>,
    /// Where HTTP is redirected to HTTPS [default: 0.0.0.0:80]
    #[arg(long, env = "WEIR_HTTP", value_name = "ADDRESS:PORT")]
    http: Option<String>,
    /// Where apps are served [default: 0.0.0.0:443]
    #[arg(long, env = "WEIR_HTTPS", value_name = "ADDRESS:PORT")]
    https: Option<String>,
    /// Where the admin API and /metrics listen [default: 127.0.0.1:8600]
    #[arg(long, env = "WEIR_ADMIN", value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    /// The Docker Engine's socket [default: /var/run/docker.sock]
    #[arg(long, env = "WEIR_DOCKER", value_name = "SOCKET")]
    docker: Option<String>,
    /// Threads that carry requests [default: one for each core]
    #[arg(long, env = "WEIR_THREADS", value_name = "N")]
    threads: Option<usize>,
    /// How log lines look: json or text [default: json]
    #[arg(long, env = "WEIR_LOG_FORMAT", value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
    /// What is logged, as `info` or `info,weir_proxy=debug` [default: info]
    #[arg(long, env = "WEIR_LOG_LEVEL", value_name = "FILTER")]
    log_level: Option<String>,
    /// Whether each request is logged: true or false [default: true]
    #[arg(long, env = "WEIR_ACCESS_LOG", value_name = "BOOL")]
    access_log: Option<bool>,
    /// Requests that wait longer for their answer have their timeline logged [default: 1s]
    #[arg(long, env = "WEIR_SLOW_REQUEST", value_name = "SPAN", value_parser = Span::parse)]
    slow_request: Option<Span>,
    /// How long requests in flight may take to end at a stop [default: 10s]
    #[arg(long, env = "WEIR_SHUTDOWN_GRACE", value_name = "SPAN", value_parser = Span::parse)]
    shutdown_grace: Option<Span>,
}

/// Variables of the environment that mean something to Weir: those of `serve`, and the client's.
const VARIABLES: [&str; 15] = [
    "WEIR_ACCESS_LOG",
    "WEIR_ADMIN",
    "WEIR_BASE_DOMAIN",
    "WEIR_CONFIG",
    "WEIR_DOCKER",
    "WEIR_HTTP",
    "WEIR_HTTPS",
    "WEIR_LOG_FORMAT",
    "WEIR_LOG_LEVEL",
    "WEIR_SHUTDOWN_GRACE",
    "WEIR_SLOW_REQUEST",
    "WEIR_STATE_DIR",
    "WEIR_THREADS",
    "WEIR_TOKEN",
    "WEIR_URL",
];

pub(crate) fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let settings = args.settings()?;
    let _log = logging::init(settings.log_format, &settings.log_level)?;
    let listeners = Listeners::bind(&settings)?;
    let dir = StateDir::open(&settings.state_dir)?;
    App::build(settings, listeners, dir)?.run()
}

impl ServeArgs {
    fn settings(self) -> anyhow::Result<Settings> {
        let unknown = |name: &String| name.starts_with("WEIR_") && !VARIABLES.contains(&&**name);
        let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        if let Some(name) = names.into_iter().find(unknown) {
            bail!(
                "the environment variable {name} is not known; known are {}",
                VARIABLES.join(", ")
            );
        }
        let file = match &self.config {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                SettingsSpec::parse(&text)
                    .map_err(|problems| anyhow!("{}:\n{problems}", path.display()))?
            }
            None => SettingsSpec::default(),
        };
        let flags = SettingsSpec {
            state_dir: self.state_dir,
            base_domain: self.base_domain,
            http: self.http,
            https: self.https,
            admin: self.admin,
            docker: self.docker,
            threads: self.threads,
            log_format: self.log_format,
            log_level: self.log_level,
            access_log: self.access_log,
            slow_request: self.slow_request,
            shutdown_grace: self.shutdown_grace,
        };
        flags
            .or(file)
            .resolve(paths::default_state_dir())
            .map_err(|problems| anyhow!("the settings are not valid:\n{problems}"))
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("write json or text".to_owned()),
    }
}

/// Bound before anything else is done: a taken port is the likeliest mistake.
struct Listeners {
    http: TcpListener,
    https: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    fn bind(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            http: ports::bind("http", settings.http)?,
            https: ports::bind("https", settings.https)?,
            admin: ports::bind("admin", settings.admin)?,
        })
    }
}

/// Everything made and nothing running yet.
struct App {
    settings: Settings,
    activity: Arc<Activity>,
    proxy: Proxy,
    control: Control,
    options: Options,
    /// Carries requests only: nothing that control does takes its threads.
    data_plane: Runtime,
    control_plane: Runtime,
    logging: Option<AccessLogGuard>,
}

impl App {
    fn build(settings: Settings, listeners: Listeners, dir: StateDir) -> anyhow::Result<Self> {
        let runtime = |name, threads| {
            Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name(name)
                .enable_all()
                .build()
        };
        let data_plane = runtime("weir-proxy", settings.threads)?;
        let control_plane = runtime("weir-control", 2)?;

        let activity = Arc::new(Activity::default());
        let certificates = weir_control::wildcard(&dir, &settings.base_domain)?;
        let initial = match dir.last_good(&activity) {
            Some(mut last_good) => {
                last_good.certificates = certificates.clone();
                last_good
            }
            None => Snapshot::empty(0, 0, certificates.clone()),
        };
        let (publisher, snapshots) = channel(initial);
        let control = Control::new(publisher, snapshots.clone(), activity.clone());

        let https_port = listeners.https.local_addr()?.port();
        let metrics = prometheus::Registry::new();
        for (name, listener) in [("http", &listeners.http), ("https", &listeners.https)] {
            tracing::info!(address = %listener.local_addr()?, "{name} listens");
        }
        let (access_log, logging) = match settings.access_log {
            true => {
                let (log, guard) = logging::access(settings.log_format)?;
                (Some(log), Some(guard))
            }
            false => (None, None),
        };
        let proxy = {
            let _inside = data_plane.enter();
            let options = ProxyOptions {
                https_port_public: https_port,
                access_log,
                slow_request: settings.slow_request,
            };
            Proxy::new(snapshots, control.hints(), listeners.http, listeners.https, options)?
        };
        metrics.register(Box::new(proxy.metrics(activity.clone())))?;
        let admin = {
            let _inside = control_plane.enter();
            tokio::net::TcpListener::from_std(listeners.admin)?
        };
        let base_domain = settings.base_domain.clone();
        let options = Options { dir, base_domain, certificates, admin, metrics, https_port };
        Ok(Self { settings, activity, proxy, control, options, data_plane, control_plane, logging })
    }

    fn run(self) -> anyhow::Result<()> {
        // Dropped last: the last requests are logged.
        let _logging = self.logging;
        let (stop, stopping) = watch::channel(false);
        let proxy = self.data_plane.spawn(self.proxy.run(stopping.clone()));

        let socket = self.settings.docker.clone();
        let until_stopped = {
            let mut stopping = stopping.clone();
            async move {
                // An error means that the sender is gone, which is a stop as well.
                let _ = stopping.wait_for(|stop| *stop).await;
            }
        };
        let control = self.control_plane.spawn(self.control.run(
            self.options,
            move |cluster| Docker::new(&socket, cluster),
            until_stopped,
        ));
        let ended = self.control_plane.block_on(async {
            tokio::select! {
                told = told_to_stop() => told.map_err(anyhow::Error::from),
                ended = control => match ended {
                    Ok(result) => result.map_err(anyhow::Error::from),
                    Err(panic) => Err(anyhow!("the control loop panicked: {panic}")),
                },
            }
        });
        tracing::info!("stopping");
        stop.send_replace(true);
        let deadline = Instant::now() + self.settings.shutdown_grace;
        self.control_plane.block_on(drained(&self.activity, deadline));
        drop(proxy);
        self.data_plane.shutdown_timeout(Duration::from_millis(100));
        self.control_plane.shutdown_timeout(Duration::from_millis(100));
        ended
    }
}

async fn told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Waits until no request is in flight, or the deadline.
async fn drained(activity: &Activity, deadline: Instant) {
    const POLL: Duration = Duration::from_millis(20);
    let in_flight = || activity.apps().iter().map(|(_, app)| app.in_flight()).sum::<u64>();
    while in_flight() > 0 && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}
