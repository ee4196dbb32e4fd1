//! Clients who ask at a fixed rate, whatever became of what they asked before.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    sync::watch,
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
    /// The target that answered it, or why nobody did.
    pub(super) by: Result<String, String>,
}

/// Clients at work, until dropped.
pub(super) struct Clients {
    over: watch::Sender<bool>,
    asking: JoinHandle<Vec<Answer>>,
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
        let url = format!("http://{host}:{}/", http.port());
        let (over, is_over) = watch::channel(false);
        let asking = tokio::spawn(ask(clients, url, rate, is_over));
        Ok(Self { over, asking })
    }

    /// Ends it. What became of all that was asked, in the order in which it was.
    pub(super) async fn finish(&mut self) -> anyhow::Result<Vec<Answer>> {
        self.over.send_replace(true);
        let mut answers = (&mut self.asking).await?;
        answers.sort_by_key(|answer| answer.at);
        Ok(answers)
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
    mut over: watch::Receiver<bool>,
) -> Vec<Answer> {
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    // Those that are late are asked at once: what is slow gets no less to do.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut asking, mut answers) = (JoinSet::new(), Vec::new());
    for client in (0..clients.len()).cycle() {
        let at = tokio::select! {
            at = ticks.tick() => at,
            _ = over.wait_for(|over| *over) => break,
        };
        while let Some(Ok(answer)) = asking.try_join_next() {
            answers.push(answer);
        }
        let (sender, url) = (clients[client].clone(), url.clone());
        asking.spawn(async move {
            let by = answer(&sender, &url).await;
            Answer { at, took: at.elapsed(), by }
        });
    }
    answers.extend(asking.join_all().await);
    answers
}

async fn answer(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let answer = client.get(url).send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
}
