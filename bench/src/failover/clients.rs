//! Clients who ask at a fixed rate, whatever became of what they asked before.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};

/// Each is in a network of its own, and so a client of its own to failover.
pub(super) const CLIENTS: usize = 40;
/// Nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of one request.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// When it was due.
    pub(super) at: Instant,
    /// From when it was due to the end of its answer.
    pub(super) took: Duration,
    pub(super) client: usize,
    /// The target that answered it, or why nobody did.
    pub(super) by: Result<String, String>,
}

/// Clients at work, until dropped.
pub(super) struct Clients {
    answers: Arc<Mutex<Vec<Answer>>>,
    asking: JoinHandle<()>,
}

impl Clients {
    /// Who ask for `host` at this address, together so many times a second.
    pub(super) fn start(http: SocketAddr, host: &str, rate: u32) -> anyhow::Result<Self> {
        let clients = (0..CLIENTS).map(|i| {
            let address = Ipv4Addr::new(127, 100 + i as u8, 0, 1);
            let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
            client.local_address(Some(address.into())).resolve(host, http).build()
        });
        let clients: Vec<_> = clients.collect::<Result<_, _>>()?;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let url = format!("http://{host}:{}/", http.port());
        let asking = tokio::spawn(ask(clients, url, rate, answers.clone()));
        Ok(Self { answers, asking })
    }

    /// All that has been answered so far, in the order in which it was asked.
    pub(super) fn answers(&self) -> Vec<Answer> {
        // A list is whole even after a panic.
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = answers.clone();
        answers.sort_by_key(|answer| answer.at);
        answers
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn ask(
    clients: Vec<reqwest::Client>,
    url: String,
    rate: u32,
    answers: Arc<Mutex<Vec<Answer>>>,
) {
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    // Those that are late are asked at once: what is slow gets no less to do.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asking = JoinSet::new();
    for number in 0_usize.. {
        let at = ticks.tick().await;
        while asking.try_join_next().is_some() {}
        let index = number % clients.len();
        let (client, url, answers) = (clients[index].clone(), url.clone(), answers.clone());
        asking.spawn(async move {
            let by = answer(&client, &url).await;
            let answer = Answer { at, took: at.elapsed(), client: index, by };
            answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        });
    }
}

async fn answer(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let answer = client.get(url).send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
}
