//! How targets and references are asked.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, time::timeout};
use weir_config::{FailoverTarget, Hostname, TargetPlace};
use weir_failover::TIMEOUT;

use super::pilot::Heard;
use crate::probe::Question;

/// What a target is asked, made ready once for all its probes. Each goes over a connection of its
/// own.
#[derive(Clone)]
pub(super) enum Asked {
    Target {
        question: Arc<Question>,
        port: u16,
    },
    /// Our own proxy, by its listener here.
    Own {
        client: reqwest::Client,
        url: String,
    },
    Reference,
    Impossible(String),
}

impl Asked {
    /// What this target is asked, as one who serves this host name; `own` is where our proxy takes
    /// HTTPS from here.
    pub(super) fn of(
        target: &FailoverTarget,
        hostname: &Hostname,
        own: Option<SocketAddr>,
    ) -> Self {
        let (path, check) = (&target.check.path, &target.check);
        let asked = match (&target.place, own) {
            (TargetPlace::Own, Some(own)) => asked_by_listener(path, hostname, own),
            (TargetPlace::Own, None) => Err("this process has no HTTPS listener".to_owned()),
            _ => Question::of_host(path, hostname, check.tls)
                .map(|question| Self::Target { question: Arc::new(question), port: check.port }),
        };
        asked.unwrap_or_else(Self::Impossible)
    }

    /// Asks once. `late` is called if there is no answer after `patience`, and after [`TIMEOUT`]
    /// there is none at all.
    pub(super) async fn ask(
        &self,
        address: SocketAddr,
        patience: Duration,
        late: impl AsyncFnOnce(),
    ) -> Heard {
        let began = Instant::now();
        let mut answer = std::pin::pin!(self.answer(address));
        let (answer, late) = match timeout(patience, &mut answer).await {
            Ok(answer) => (answer, false),
            Err(_) => {
                late().await;
                let left = TIMEOUT.saturating_sub(began.elapsed());
                let none = |_| Err(format!("{address} did not answer within {TIMEOUT:?}"));
                (timeout(left, answer).await.unwrap_or_else(none), true)
            }
        };
        match answer {
            Ok(()) => Heard::Answered(began.elapsed()),
            Err(error) => Heard::Failed { error, late },
        }
    }

    async fn answer(&self, address: SocketAddr) -> Result<(), String> {
        match self {
            Self::Target { question, port } => {
                question.ask(SocketAddr::new(address.ip(), *port), None).await
            }
            Self::Own { client, url } => {
                let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
                let status = answer.status();
                let is_good = status.is_success() || status.is_redirection();
                is_good.then_some(()).ok_or_else(|| format!("GET {url}: {status}"))
            }
            Self::Reference => {
                let connected = TcpStream::connect(address).await;
                connected.map(drop).map_err(|error| format!("connecting to {address}: {error}"))
            }
            Self::Impossible(why) => Err(why.clone()),
        }
    }
}

fn asked_by_listener(path: &str, hostname: &Hostname, own: SocketAddr) -> Result<Asked, String> {
    let host: &str = hostname;
    // Our own listener on this machine: whom else it could reach, the certificate need not say.
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .resolve(host, own)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .user_agent("weir-health-check")
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Asked::Own { client, url: format!("https://{host}:{}{path}", own.port()) })
}

/// Where a target is by itself; `None` if that has to be looked up.
pub(super) fn addresses(place: &TargetPlace, own: Option<SocketAddr>) -> Option<Vec<IpAddr>> {
    match place {
        TargetPlace::Cdn(_) => None,
        TargetPlace::Addresses(addresses) => Some(addresses.clone()),
        TargetPlace::Own => Some(own.map(|own| own.ip()).into_iter().collect()),
    }
}
