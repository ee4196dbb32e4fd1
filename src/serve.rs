//! `weir serve`: reads the settings, puts the parts together, and runs them until it is told to
//! stop. It decides nothing.

use std::{collections::BTreeSet, env, fs, io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use tokio::runtime::{Builder, Handle, Runtime};
use weir_config::{
    Activity, LogFormat, ProxySpec, Settings, SettingsSpec, Snapshot, Span, channel,
};
use weir_control::{Control, StateDir};
use weir_deploy::Devices;
use weir_proxy::{AccessLog, Proxy, ProxyOptions};

use crate::{
    descriptors,
    lifecycle::{
        DataPlane, Inherited, Predecessor, Process, Shared, Sockets, Stateful, operator,
        watchdog::{self, Watchdog},
    },
    logging, paths,
    tickets::TicketFile,
    tunnels::{AppCalls, Tunnels},
};

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
    /// Where DNS is answered, over UDP and TCP, as 0.0.0.0:53 [default: nowhere]
    #[arg(long, env = "WEIR_DNS", value_name = "ADDRESS:PORT")]
    dns: Option<String>,
    /// Where the admin API and /metrics listen [default: 127.0.0.1:8600]
    #[arg(long, env = "WEIR_ADMIN", value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    /// The Docker Engine's socket [default: /var/run/docker.sock]
    #[arg(long, env = "WEIR_DOCKER", value_name = "SOCKET")]
    docker: Option<String>,
    /// Where devices come in; left out, none may
    #[arg(long, env = "WEIR_DEVICES", value_name = "ADDRESS:PORT")]
    devices: Option<String>,
    /// Where devices are told to connect to [default: the base domain, at the port of --devices]
    #[arg(long, env = "WEIR_DEVICES_ADDRESS", value_name = "HOST:PORT")]
    devices_address: Option<String>,
    /// A name server to ask about the domains of apps [default: whom this machine asks]
    #[arg(long, env = "WEIR_RESOLVER", value_name = "ADDRESS:PORT")]
    resolver: Option<String>,
    /// Whether apps get domains only by a TXT record of their owner: true or false [default: false]
    #[arg(long, env = "WEIR_VERIFY_DOMAINS", value_name = "BOOL")]
    verify_domains: Option<bool>,
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
    /// A process of which a part stands still so long ends itself; 0s: never [default: 10s]
    #[arg(long, env = "WEIR_WATCHDOG", value_name = "SPAN", value_parser = Span::parse)]
    watchdog: Option<Span>,
}

/// `whole` is all of `weir`, whose variables of the environment are known.
pub(crate) fn serve(args: ServeArgs, whole: &clap::Command) -> anyhow::Result<()> {
    let mut inherited = Inherited::take()?;
    refuse_unknown(&variables(whole))?;
    let settings = args.settings()?;
    let _log = logging::init(settings.log_format, &settings.log_level)?;
    let (access_log, _access_log) = logging::access(&settings)?.unzip();
    descriptors::raise(settings.proxy.max_connections as u64);
    // Bound before anything else is done: a taken port is the likeliest mistake.
    let sockets = Sockets::gather(&mut inherited, &settings)?;
    // Nothing that control does takes the threads that carry requests.
    let data_plane = runtime("weir-proxy", settings.threads)?;
    let control_plane = runtime("weir-control", 2)?;
    #[cfg(debug_assertions)]
    watchdog::stall_on_demand(
        &settings.state_dir,
        [("proxy", data_plane.handle()), ("control", control_plane.handle())],
    );
    let predecessor = match inherited.predecessor {
        Some(stream) => Some(control_plane.block_on(Predecessor::take_over(stream, &settings))?),
        None => None,
    };
    let dir = StateDir::open(&settings.state_dir)?;
    let app = App::build(settings, sockets, dir, predecessor, access_log, data_plane.handle())?;
    let lived = control_plane.block_on(app.process.live(app.state, app.dir, app.shared));
    data_plane.shutdown_timeout(LAST_TASKS);
    control_plane.shutdown_timeout(LAST_TASKS);
    lived
}

/// How long threads may take to notice that it is over.
const LAST_TASKS: Duration = Duration::from_millis(100);

fn runtime(name: &str, threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build()
}

impl ServeArgs {
    fn settings(self) -> anyhow::Result<Settings> {
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
            dns: self.dns,
            admin: self.admin,
            docker: self.docker,
            devices: self.devices,
            devices_address: self.devices_address,
            tailnet: None,
            resolver: self.resolver,
            verify_domains: self.verify_domains,
            references: None,
            threads: self.threads,
            log_format: self.log_format,
            log_level: self.log_level,
            access_log: self.access_log,
            slow_request: self.slow_request,
            shutdown_grace: self.shutdown_grace,
            watchdog: self.watchdog,
            proxy: ProxySpec::default(),
        };
        flags
            .or(file)
            .resolve(paths::default_state_dir())
            .map_err(|problems| anyhow!("the settings are not valid:\n{problems}"))
    }
}

/// The variables of the environment that mean something to a command or one of its own commands.
fn variables(command: &clap::Command) -> BTreeSet<String> {
    let arguments = command.get_arguments().filter_map(clap::Arg::get_env);
    let own = arguments.filter_map(|name| name.to_str().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// A misspelt variable would be a setting that is silently not made.
fn refuse_unknown(known: &BTreeSet<String>) -> anyhow::Result<()> {
    let mut names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let is_known =
        |name: &String| known.contains(name) || cfg!(debug_assertions) && name == watchdog::STALL;
    match names.find(|name| name.starts_with("WEIR_") && !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            let known = Vec::from_iter(known.iter().map(String::as_str)).join(", ");
            bail!("the environment variable {name} is not known; known are {known}")
        }
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("write json or text".to_owned()),
    }
}

/// Everything made and nothing running yet.
struct App {
    process: Process,
    state: Stateful,
    dir: StateDir,
    /// What is one with the process before this one, if there is one.
    shared: Option<Shared>,
}

impl App {
    fn build(
        settings: Settings,
        mut sockets: Sockets,
        dir: StateDir,
        mut predecessor: Option<Predecessor>,
        access_log: Option<AccessLog>,
        data_plane: &Handle,
    ) -> anyhow::Result<Self> {
        let activity = Arc::new(Activity::default());
        let devices = Devices::new(data_plane.clone());
        let certificates = weir_control::certificates(&dir, &settings.base_domain)?;
        let served = match &mut predecessor {
            Some(predecessor) => predecessor.snapshot(&activity, dir.zones()),
            None => dir.last_good(&activity),
        };
        let initial = match served {
            Some(mut served) => {
                served.certificates = certificates;
                served
            }
            None => Snapshot::empty(0, 0, certificates),
        };
        let (publisher, snapshots) = channel(initial);
        let control = Control::new(publisher, snapshots.clone(), activity.clone());
        let share = |predecessor: Predecessor| {
            predecessor.share(snapshots.clone(), activity.clone(), control.hints())
        };
        let shared = predecessor.map(share);

        if sockets.operator.is_none() {
            sockets.operator = operator::listen(&dir)
                .inspect_err(|error| tracing::warn!(%error, "`weir upgrade` will not work"))
                .ok();
        }
        for (name, listener) in [("http", &sockets.http), ("https", &sockets.https)] {
            tracing::info!(address = %listener.local_addr()?, "{name} listens");
        }
        let proxy = {
            let _inside = data_plane.enter();
            let (http, https) = (sockets.http.try_clone()?, sockets.https.try_clone()?);
            let https_port_public = https.local_addr()?.port();
            let (slow_request, proxy) = (settings.slow_request, settings.proxy.clone());
            let options = ProxyOptions {
                https_port_public,
                cdn_id: dir.cdn_id().context("cannot keep the name of this Weir")?,
                settings: proxy,
                access_log,
                slow_request,
                devices: Arc::new(Tunnels(devices.clone())),
            };
            Proxy::new(snapshots.clone(), control.hints(), http, https, options)?
        };
        let dns = match &sockets.dns {
            Some(dns) => {
                tracing::info!(address = %dns.address()?, "dns listens");
                Some(dns.serve(snapshots.clone(), data_plane)?)
            }
            None => None,
        };
        let calls = AppCalls { proxy: proxy.calls(), data_plane: data_plane.clone() };
        let tickets = TicketFile::open(&dir, proxy.tickets())?;
        let metrics = proxy.metrics(activity.clone());
        let watchdog = Watchdog::start(settings.watchdog, data_plane.clone())?;
        let data_plane = DataPlane::new(proxy, data_plane.clone());
        let process = Process {
            settings,
            sockets,
            activity,
            snapshots,
            devices,
            calls: Arc::new(calls),
            metrics,
            data_plane,
            dns,
            watchdog,
        };
        Ok(Self { process, state: Stateful { control, tickets }, dir, shared })
    }
}
