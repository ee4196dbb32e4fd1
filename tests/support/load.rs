//! Steady load of several kinds of clients, each request with an identity of its own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use super::{Weir, upstream::Upstream, wait_for};

pub struct Load {
    clients: JoinSet<Vec<Request>>,
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

struct Request {
    id: String,
    /// What is wrong with the answer, if it was not as it should be.
    failure: Option<String>,
}

/// What came of all requests.
#[derive(Debug)]
pub struct Report {
    pub sent: usize,
    pub failures: Vec<String>,
    /// Requests that the app has seen more than once.
    pub twice: Vec<String>,
}

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two requests of one client, so that a small machine is not busy with load alone.
const PAUSE: Duration = Duration::from_millis(2);

impl Load {
    /// Clients that keep their connections, in HTTP/1.1 and HTTP/2, and clients that make one for
    /// each request; some GET, some POST.
    pub fn start(weir: &Weir, app: &str) -> Self {
        let kinds: [(&str, reqwest::ClientBuilder); 4] = [
            ("h1", weir.client_builder().http1_only()),
            ("h2", weir.client_builder()),
            ("h1-new", weir.client_builder().http1_only().pool_max_idle_per_host(0)),
            ("h2-new", weir.client_builder().pool_max_idle_per_host(0)),
        ];
        let mut this = Self {
            clients: JoinSet::new(),
            answered: Arc::default(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        for (kind, builder) in kinds {
            let client = builder.timeout(PATIENCE).build().unwrap();
            for method in [reqwest::Method::GET, reqwest::Method::POST] {
                let name = format!("{kind}-{method}");
                this.add(client.clone(), name, weir.url(app, "/count"), method);
            }
        }
        this
    }

    fn add(&mut self, client: reqwest::Client, name: String, url: String, method: reqwest::Method) {
        let (stop, answered) = (self.stop.clone(), self.answered.clone());
        self.clients.spawn(async move {
            let mut requests = Vec::new();
            while !stop.load(Relaxed) {
                let id = format!("{name}-{}", requests.len());
                let mut request = client.request(method.clone(), format!("{url}/{id}"));
                if method == reqwest::Method::POST {
                    request = request.body(id.clone());
                }
                let answer = async {
                    let answer = request.send().await?.error_for_status()?;
                    answer.text().await
                };
                let failure = match answer.await {
                    Ok(text) if text == id => None,
                    Ok(text) => Some(format!("{id}: answered {text}")),
                    Err(error) => Some(format!("{id}: {error:?}")),
                };
                answered.fetch_add(1, Relaxed);
                requests.push(Request { id, failure });
                tokio::time::sleep(PAUSE).await;
            }
            requests
        });
    }

    /// Waits until so many more requests have ended.
    pub async fn go_on(&self, more: usize) {
        let until = self.answered.load(Relaxed) + more;
        let enough = async || (self.answered.load(Relaxed) >= until).then_some(());
        wait_for("requests to end", enough).await;
    }

    pub async fn stop(self, upstream: &Upstream) -> Report {
        self.stop.store(true, Relaxed);
        let requests: Vec<_> = self.clients.join_all().await.into_iter().flatten().collect();
        let counts: BTreeMap<_, _> = upstream.counts();
        let missing = |request: &&Request| !counts.contains_key(&request.id);
        let mut failures: Vec<_> = requests.iter().filter_map(|r| r.failure.clone()).collect();
        failures.extend(
            requests
                .iter()
                .filter(|request| request.failure.is_none())
                .filter(missing)
                .map(|request| format!("{}: answered, and never arrived", request.id)),
        );
        let twice = counts.into_iter().filter(|(_, n)| *n > 1).map(|(id, _)| id).collect();
        Report { sent: requests.len(), failures, twice }
    }
}
