//! Asks an app through the proxy's own listener, as its users do, and tells the loop what comes.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle};
use weir_config::AppName;

use crate::{event::Event, plan::PublicCheck};

/// Between two requests of one check.
const PACE: Duration = Duration::from_millis(200);
/// For one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The checks under way: at most one for each app.
#[derive(Debug)]
pub(crate) struct PublicChecks {
    running: BTreeMap<AppName, (PublicCheck, Task)>,
    /// Where the proxy takes HTTPS; `None` if it does not take it from here.
    listener: Option<SocketAddr>,
    events: mpsc::WeakSender<Event>,
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PublicChecks {
    pub(crate) fn new(listener: Option<SocketAddr>, events: &mpsc::Sender<Event>) -> Self {
        Self { running: BTreeMap::new(), listener, events: events.downgrade() }
    }

    /// Makes the check of an app this one, or none.
    pub(crate) fn keep(&mut self, app: &AppName, check: Option<PublicCheck>) {
        if self.running.get(app).map(|(running, _)| running) == check.as_ref() {
            return;
        }
        self.running.remove(app);
        if let Some(check) = check {
            let checked = run(app.clone(), check.clone(), self.listener, self.events.clone());
            self.running.insert(app.clone(), (check, Task(tokio::spawn(checked))));
        }
    }
}

/// Asks until there is an answer that passes.
async fn run(
    app: AppName,
    check: PublicCheck,
    listener: Option<SocketAddr>,
    events: mpsc::WeakSender<Event>,
) {
    let mut told = None;
    loop {
        let outcome = match listener {
            Some(listener) => ask(&check, listener).await,
            None => Ok(()),
        };
        let passed = outcome.is_ok();
        if told.as_ref() != Some(&outcome) {
            told = Some(outcome.clone());
            let Some(events) = events.upgrade() else { return };
            let checked = Event::PublicChecked { app: app.clone(), stage: check.stage, outcome };
            if events.send(checked).await.is_err() {
                return;
            }
        }
        if passed {
            return;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Any answer that is no failure passes: it is the way that is checked, and the app's health has
/// been.
async fn ask(check: &PublicCheck, listener: SocketAddr) -> Result<(), String> {
    let host: &str = &check.hostname;
    // Its own listener on this machine: whom else it could reach, the certificate need not say.
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .resolve(host, listener)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .user_agent("weir-public-check")
        .build()
        .map_err(|error| error.to_string())?;
    let url = format!("https://{host}:{}{}", listener.port(), check.path);
    match client.get(url).send().await {
        Ok(answer) if answer.status().as_u16() < 500 => Ok(()),
        Ok(answer) => Err(format!("status {}", answer.status().as_u16())),
        Err(error) => {
            let cause = std::error::Error::source(&error);
            Err(cause.map_or_else(|| error.to_string(), ToString::to_string))
        }
    }
}
