//! A proxy on ports of its own, with a scripted control loop.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use prometheus::{TextEncoder, core::Collector};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use weir_config::{
    Activity, AppActivity, AppName, AppRoute, Backends, Balance, Certificate, Certificates,
    Endpoint, EndpointActivity, EndpointId, HostName, InstanceId, LogFormat, Moment, Observe, Pool,
    ProxySettings, Publisher, Reach, RouteState, Snapshot, Timeouts, TrafficPolicy, channel,
};
use weir_proxy::{
    AccessLog, AccessLogGuard, NoDevices, Phase, Proxy, ProxyMetrics, ProxyOptions, Tickets,
};

/// Far beyond anything that works, so that what takes this long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Everything of a test but its upstreams and clients.
pub(crate) struct World {
    pub(crate) ca: Ca,
    pub(crate) control: ScriptedControl,
    pub(crate) activity: Arc<Activity>,
    pub(crate) hints: mpsc::UnboundedReceiver<Hint>,
    pub(crate) metrics: ProxyMetrics,
    pub(crate) tickets: Tickets,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) running: JoinHandle<()>,
    _logging: AccessLogGuard,
}

impl World {
    /// Serves nothing yet; shows a certificate for `*.apps.test`.
    pub(crate) fn start() -> Self {
        let ca = Ca::new();
        let certificates = certificates([ca.issue(&["*.apps.test"])]);
        Self::start_with(ca, certificates)
    }

    pub(crate) fn start_with(ca: Ca, certificates: Arc<Certificates>) -> Self {
        Self::start_as(ca, certificates, settings(), DEADLINE)
    }

    /// The same, with settings of the test's own.
    pub(crate) fn with(change: impl FnOnce(&mut ProxySettings)) -> Self {
        let ca = Ca::new();
        let certificates = certificates([ca.issue(&["*.apps.test"])]);
        let mut settings = settings();
        change(&mut settings);
        Self::start_as(ca, certificates, settings, DEADLINE)
    }

    /// Logs the timelines of requests that wait longer than this for their answer.
    pub(crate) fn start_with_slow_request(slow_request: Duration) -> Self {
        let ca = Ca::new();
        let certificates = certificates([ca.issue(&["*.apps.test"])]);
        Self::start_as(ca, certificates, settings(), slow_request)
    }

    fn start_as(
        ca: Ca,
        certificates: Arc<Certificates>,
        settings: ProxySettings,
        slow_request: Duration,
    ) -> Self {
        install();
        let snapshot = Snapshot::empty(1, 0, certificates);
        let (publisher, snapshots) = channel(snapshot.clone());
        let (heard, hints) = mpsc::unbounded_channel();
        let (http, https) = (listener(), listener());
        let (http_address, https_address) =
            (http.local_addr().unwrap(), https.local_addr().unwrap());
        let (access_log, logging) = AccessLog::start(LogFormat::Json, Log).unwrap();
        let options = ProxyOptions {
            https_port_public: https_address.port(),
            cdn_id: "weir-test".to_owned(),
            settings,
            access_log: Some(access_log),
            slow_request,
            devices: Arc::new(NoDevices),
        };
        let proxy = Proxy::new(snapshots, Arc::new(Heard(heard)), http, https, options).unwrap();
        let activity = Arc::new(Activity::default());
        let metrics = proxy.metrics(activity.clone());
        let tickets = proxy.tickets();
        let (phase, phases) = watch::channel(Phase::Running);
        Self {
            ca,
            control: ScriptedControl { publisher, snapshot },
            activity,
            hints,
            metrics,
            tickets,
            http: http_address,
            https: https_address,
            phase,
            running: tokio::spawn(proxy.run(phases)),
            _logging: logging,
        }
    }

    /// Publishes an app at `<name>.apps.test` in this state.
    pub(crate) fn serve(&mut self, name: &str, state: RouteState) {
        let route = self.route(name, state);
        self.control.publish(|snapshot| snapshot.insert(route));
    }

    pub(crate) fn route(&self, name: &str, state: RouteState) -> AppRoute {
        let app: AppName = name.parse().unwrap();
        AppRoute {
            hostnames: vec![format!("{name}.apps.test").parse().unwrap()],
            state,
            policy: Arc::new(policy()),
            wake_timeout: DEADLINE,
            queue: 1000,
            activity: self.activity.app(&app),
            app,
        }
    }

    /// Publishes an app that serves from these addresses, with a policy that differs in this.
    pub(crate) fn serve_with(
        &mut self,
        name: &str,
        addresses: &[SocketAddr],
        change: impl FnOnce(&mut TrafficPolicy),
    ) {
        let endpoint = |(i, address): (usize, &SocketAddr)| self.endpoint(name, i as u16, *address);
        let state = serving(addresses.iter().enumerate().map(endpoint));
        let mut route = self.route(name, state);
        change(Arc::make_mut(&mut route.policy));
        self.control.publish(|snapshot| snapshot.insert(route));
    }

    pub(crate) fn endpoint(&self, app: &str, ordinal: u16, address: SocketAddr) -> Endpoint {
        let id = instance(app, ordinal);
        let activity = self.activity.endpoint(&id);
        let (reach, ready_since) = (Reach::Direct, Moment::default());
        Endpoint { id, address, reach, weight: 1, ready_since, activity }
    }

    /// The state of an app with one endpoint.
    pub(crate) fn serving(&self, app: &str, address: SocketAddr) -> RouteState {
        serving([self.endpoint(app, 0, address)])
    }

    pub(crate) fn app(&self, name: &str) -> Arc<AppActivity> {
        self.activity.app(&name.parse().unwrap())
    }

    pub(crate) fn in_flight_on(&self, app: &str, ordinal: u16) -> Arc<EndpointActivity> {
        self.activity.endpoint(&instance(app, ordinal))
    }

    pub(crate) fn url(&self, app: &str, path: &str) -> String {
        format!("https://{app}.apps.test:{}{path}", self.https.port())
    }

    /// One sample of what a scrape shows.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let mut families = self.metrics.collect();
        families.retain(|family| !family.get_metric().is_empty());
        let text = TextEncoder::new().encode_to_string(&families).unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{line} is not in:\n{text}")).parse().unwrap()
    }

    pub(crate) async fn hint(&mut self) -> Hint {
        timeout(DEADLINE, self.hints.recv()).await.expect("no hint came").unwrap()
    }
}

/// Publishes what a test says, as the control loop would.
pub(crate) struct ScriptedControl {
    publisher: Publisher,
    snapshot: Snapshot,
}

impl ScriptedControl {
    pub(crate) fn publish(&mut self, change: impl FnOnce(&mut Snapshot)) -> u64 {
        change(&mut self.snapshot);
        self.snapshot.generation += 1;
        self.publisher.publish(Arc::new(self.snapshot.clone())).unwrap();
        self.snapshot.generation
    }
}

/// What the proxy told the control loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    WakeWanted(AppName),
    ConnectFailed(EndpointId),
}

impl Hint {
    pub(crate) fn wake(app: &str) -> Self {
        Self::WakeWanted(app.parse().unwrap())
    }

    pub(crate) fn connect_failed(app: &str, ordinal: u16) -> Self {
        Self::ConnectFailed(instance(app, ordinal))
    }
}

struct Heard(mpsc::UnboundedSender<Hint>);

impl Observe for Heard {
    fn wake_wanted(&self, app: &AppName) {
        let _ = self.0.send(Hint::WakeWanted(app.clone()));
    }

    fn connect_failed(&self, endpoint: &EndpointId) {
        let _ = self.0.send(Hint::ConnectFailed(endpoint.clone()));
    }
}

/// A certificate authority that the clients of a test trust.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn der(&self) -> Arc<[u8]> {
        Arc::from(&**self.0.der())
    }

    /// A server's side of TLS, for one name.
    pub(crate) fn acceptor(&self, name: &str, protocols: &[&str]) -> TlsAcceptor {
        self.acceptor_until(2100, name, protocols)
    }

    /// The same with a certificate that is good until a year begins.
    pub(crate) fn acceptor_until(&self, year: i32, name: &str, protocols: &[&str]) -> TlsAcceptor {
        install();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let sans: Vec<String> = names.iter().map(ToString::to_string).collect();
        let issued = CertificateParams::new(sans).unwrap().signed_by(&key, &self.0).unwrap();
        let names = names.iter().map(|name| name.parse().unwrap());
        Certificate::from_pem(names, &issued.pem(), &key.serialize_pem(), (0, 0)).unwrap()
    }
}

/// In the order of preference.
pub(crate) fn certificates(all: impl IntoIterator<Item = Certificate>) -> Arc<Certificates> {
    Arc::new(all.into_iter().map(Arc::new).collect())
}

/// Waits for something that nothing announces.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

pub(crate) fn instance(app: &str, ordinal: u16) -> EndpointId {
    let (app, host) = (app.parse().unwrap(), HostName::local());
    InstanceId { app, deployment: 1, ordinal, host }.into()
}

/// The state of an app with these endpoints, in no order.
pub(crate) fn serving(endpoints: impl IntoIterator<Item = Endpoint>) -> RouteState {
    let pool = Pool::new(endpoints.into_iter().collect(), Balance::default());
    RouteState::Serving(Backends::Own(Arc::new(pool)))
}

/// The default policy, with timeouts that no test waits for.
fn policy() -> TrafficPolicy {
    let connect = Duration::from_secs(3);
    let timeouts = Timeouts { connect, read: DEADLINE, write: DEADLINE, total: None };
    TrafficPolicy { timeouts, ..TrafficPolicy::default() }
}

/// The default settings, without a wait at the end, and with no wakes but those of requests.
fn settings() -> ProxySettings {
    let lame_duck = Duration::ZERO;
    ProxySettings { lame_duck, speculative_wake: false, ..ProxySettings::default() }
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// Once for each test binary.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Two providers are compiled in; without a choice the first use of TLS panics.
        rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_env_filter("timeline=info")
            .with_writer(|| Log)
            .init();
    });
}

/// Everything logged by all tests of this process.
static LINES: Mutex<String> = Mutex::new(String::new());

struct Log;

impl Write for Log {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap().push_str(std::str::from_utf8(lines).unwrap());
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The access log's entry of the request to a path that no other test asks for.
pub(crate) async fn logged(path: &str) -> Value {
    logged_with("path", path, "access").await
}

/// The first line of a target that has this value in a field.
pub(crate) async fn logged_with(field: &str, value: &str, target: &str) -> Value {
    let mut found = None;
    eventually("the request is logged", || {
        found = lines().find(|entry| entry[field] == value && entry["target"] == target);
        found.is_some()
    })
    .await;
    found.unwrap()
}

pub(crate) fn lines() -> impl Iterator<Item = Value> {
    let lines = LINES.lock().unwrap().clone();
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    lines.lines().map(parse).collect::<Vec<_>>().into_iter()
}
