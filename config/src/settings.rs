//! How one `weir serve` is set up.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Hostname, Problem, Problems, ProxySettings, ProxySpec, Span, parse_documents};

/// Settings as written in a file, the environment or flags; what is left out is said by a weaker
/// source or the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettingsSpec {
    pub state_dir: Option<PathBuf>,
    pub base_domain: Option<String>,
    pub http: Option<String>,
    pub https: Option<String>,
    pub dns: Option<String>,
    pub admin: Option<String>,
    pub docker: Option<String>,
    pub devices: Option<String>,
    pub devices_address: Option<String>,
    pub tailnet: Option<TailnetSpec>,
    pub resolver: Option<String>,
    pub verify_domains: Option<bool>,
    pub references: Option<Vec<String>>,
    pub threads: Option<usize>,
    pub log_format: Option<LogFormat>,
    pub log_level: Option<String>,
    pub access_log: Option<bool>,
    pub slow_request: Option<Span>,
    pub shutdown_grace: Option<Span>,
    pub watchdog: Option<Span>,
    pub proxy: ProxySpec,
}

/// How to get into a tailnet, without a `tailscaled` on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailnetSpec {
    /// The name to have there.
    pub hostname: String,
    /// A file with a Tailscale auth key, which is needed the first time.
    pub auth_key_file: Option<PathBuf>,
    /// The server that runs the tailnet; Tailscale's own if left out.
    pub url: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For reading in a terminal.
    Text,
}

/// An example of where devices may come in.
const DEVICES: &str = "0.0.0.0:8601";

/// A busy machine may leave a thread out for a moment.
const SHORTEST_WATCHDOG: Duration = Duration::from_secs(1);

/// Settings as meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Database, certificates, tokens and the last good snapshot; only its owner may read it.
    pub state_dir: PathBuf,
    /// Every app is served at `<name>.<base_domain>`.
    pub base_domain: Hostname,
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// Where DNS is answered over UDP and TCP; `None` for nowhere.
    pub dns: Option<SocketAddr>,
    /// The admin API and `/metrics`.
    pub admin: SocketAddr,
    /// The Docker Engine's socket.
    pub docker: PathBuf,
    /// Where devices come in, if they may.
    pub devices: Option<SocketAddr>,
    /// `HOST:PORT` that devices are told to connect to.
    pub devices_address: Option<String>,
    /// A tailnet that devices come by as well, at the same port.
    pub tailnet: Option<TailnetSpec>,
    /// Who is asked what the DNS says of domains; `None` for whom this machine asks.
    pub resolver: Option<SocketAddr>,
    /// Whether the owner of a domain must say so by a TXT record before an app is served at it.
    pub verify_domains: bool,
    /// Servers that have nothing to do with any target of failover. While most of them cannot be
    /// connected to, it is this machine that is cut off, and it says nothing of targets.
    pub references: Vec<SocketAddr>,
    /// Threads that carry requests.
    pub threads: usize,
    pub log_format: LogFormat,
    /// A filter as in `info` or `info,weir_proxy=debug`.
    pub log_level: String,
    /// Whether each request is logged.
    pub access_log: bool,
    /// A request that waits longer than this for its answer has its timeline logged.
    pub slow_request: Duration,
    /// How long requests in flight may take to end when the process is asked to stop.
    pub shutdown_grace: Duration,
    /// A process of which a part stands still for so long ends itself; zero for never.
    pub watchdog: Duration,
    pub proxy: ProxySettings,
}

impl SettingsSpec {
    /// Reads a settings file (YAML).
    ///
    /// # Errors
    /// Every unknown key and every value of the wrong type, with its place.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        match parse_documents(text)?.as_slice() {
            [] => Ok(Self::default()),
            [document] => document.decode(),
            _ => {
                let message = "a settings file is one YAML document";
                Err(Problems(vec![Problem::new("", "too_many_documents", message)]))
            }
        }
    }

    /// These settings, with `weaker` where they are silent.
    pub fn or(self, weaker: Self) -> Self {
        Self {
            state_dir: self.state_dir.or(weaker.state_dir),
            base_domain: self.base_domain.or(weaker.base_domain),
            http: self.http.or(weaker.http),
            https: self.https.or(weaker.https),
            dns: self.dns.or(weaker.dns),
            admin: self.admin.or(weaker.admin),
            docker: self.docker.or(weaker.docker),
            devices: self.devices.or(weaker.devices),
            devices_address: self.devices_address.or(weaker.devices_address),
            tailnet: self.tailnet.or(weaker.tailnet),
            resolver: self.resolver.or(weaker.resolver),
            verify_domains: self.verify_domains.or(weaker.verify_domains),
            references: self.references.or(weaker.references),
            threads: self.threads.or(weaker.threads),
            log_format: self.log_format.or(weaker.log_format),
            log_level: self.log_level.or(weaker.log_level),
            access_log: self.access_log.or(weaker.access_log),
            slow_request: self.slow_request.or(weaker.slow_request),
            shutdown_grace: self.shutdown_grace.or(weaker.shutdown_grace),
            watchdog: self.watchdog.or(weaker.watchdog),
            proxy: self.proxy.or(weaker.proxy),
        }
    }

    /// Fills in the defaults and checks every value.
    ///
    /// # Errors
    /// Every value that cannot be used.
    pub fn resolve(self, default_state_dir: PathBuf) -> Result<Settings, Problems> {
        let mut problems = Problems::default();
        let base = self.base_domain.unwrap_or_else(|| "weir.localhost".to_owned());
        let base_domain = problems.take("/base_domain", "bad_hostname", base.parse::<Hostname>());
        if base.starts_with('*') || !base.contains('.') {
            let message =
                "write a domain of at least two labels without `*`, as `apps.example.com`";
            problems.push(Problem::new("/base_domain", "bad_hostname", message));
        }
        let mut address = |field: &str, written: Option<String>, default: &str| {
            let written = written.unwrap_or_else(|| default.to_owned());
            let parsed = written.parse::<SocketAddr>().map_err(|_| {
                format!(
                    "`{written}` is not an address to listen on; write ADDRESS:PORT, as {default}"
                )
            });
            problems.take(&format!("/{field}"), "bad_address", parsed)
        };
        let http = address("http", self.http, "0.0.0.0:80");
        let https = address("https", self.https, "0.0.0.0:443");
        let admin = address("admin", self.admin, "127.0.0.1:8600");
        let devices = self.devices.map(|written| address("devices", Some(written), DEVICES));
        let dns = self.dns.map(|dns| address("dns", Some(dns), "0.0.0.0:53"));
        let resolver = self.resolver.and_then(|written| {
            let parsed = written.parse::<SocketAddr>().map_err(|_| {
                format!(
                    "`{written}` is no name server's address; write ADDRESS:PORT, as 192.0.2.53:53"
                )
            });
            problems.take("/resolver", "bad_address", parsed)
        });
        let references = references(&self.references.unwrap_or_default(), &mut problems);
        let threads = self
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
        if !(1..=1024).contains(&threads) {
            problems.push(Problem::new("/threads", "out_of_range", "write 1 to 1024"));
        }
        let docker = self.docker.unwrap_or_else(|| "/var/run/docker.sock".to_owned());
        let docker = PathBuf::from(docker.strip_prefix("unix://").unwrap_or(&docker));
        if !docker.is_absolute() {
            let message = "write the absolute path of the engine's socket";
            problems.push(Problem::new("/docker", "bad_path", message));
        }
        let watchdog = self.watchdog.map_or(Duration::from_secs(10), |span| span.0);
        if !watchdog.is_zero() && watchdog < SHORTEST_WATCHDOG {
            let message = "write at least 1s, or 0s for none";
            problems.push(Problem::new("/watchdog", "out_of_range", message));
        }
        let proxy = self.proxy.resolve(&mut problems);
        let (Some(base_domain), Some(http), Some(https), Some(admin)) =
            (base_domain, http, https, admin)
        else {
            return Err(problems);
        };
        problems.or_value(Settings {
            state_dir: self.state_dir.unwrap_or(default_state_dir),
            base_domain,
            http,
            https,
            dns: dns.flatten(),
            admin,
            docker,
            devices: devices.flatten(),
            devices_address: self.devices_address,
            tailnet: self.tailnet,
            resolver,
            verify_domains: self.verify_domains.unwrap_or(false),
            references,
            threads,
            log_format: self.log_format.unwrap_or_default(),
            log_level: self.log_level.unwrap_or_else(|| "info".to_owned()),
            access_log: self.access_log.unwrap_or(true),
            slow_request: self.slow_request.map_or(Duration::from_secs(1), |span| span.0),
            shutdown_grace: self.shutdown_grace.map_or(Duration::from_secs(10), |span| span.0),
            watchdog,
            proxy,
        })
    }
}

/// Each is asked once a second.
const MOST_REFERENCES: usize = 8;

fn references(written: &[String], problems: &mut Problems) -> Vec<SocketAddr> {
    if written.len() > MOST_REFERENCES {
        let message = format!("write at most {MOST_REFERENCES} of them");
        problems.push(Problem::new("/references", "out_of_range", message));
    }
    let mut address = |(i, text): (usize, &String)| {
        let wrong = |_| format!("`{text}` is no server's address; write it as 192.0.2.1:443");
        let address = text.parse::<SocketAddr>().map_err(wrong);
        problems.take(&format!("/references/{i}"), "bad_address", address)
    };
    written.iter().enumerate().filter_map(&mut address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stronger_source_wins_field_by_field() {
        let file = SettingsSpec::parse("base_domain: a.example\nthreads: 3\n").unwrap();
        let flags = SettingsSpec { threads: Some(1), ..SettingsSpec::default() };
        let settings = flags.or(file).resolve("/state".into()).unwrap();
        assert_eq!((&*settings.base_domain, settings.threads), ("a.example", 1));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_place() {
        let problems = SettingsSpec::parse("threads: 3\nbase_domian: a.example\n").unwrap_err();
        assert_eq!(
            problems.to_string(),
            "2:1: base_domian: unknown field `base_domian`; did you mean `base_domain`?"
        );
    }

    #[test]
    fn every_bad_value_is_told() {
        let spec =
            SettingsSpec::parse("http: here\nadmin: there\nbase_domain: com\nreferences: [x]\n")
                .unwrap();
        let problems = spec.resolve("/state".into()).unwrap_err();
        let pointers: Vec<_> = problems.0.iter().map(|p| p.pointer.as_str()).collect();
        assert_eq!(pointers, ["/base_domain", "/http", "/admin", "/references/0"]);
    }
}
