//! `kill -9` at random moments, under load, while an operator changes things: after each restart
//! everything comes to what was wanted, and the requests notice no more than that nobody was there.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use support::{Weir, containers, spec, unique, wait_for};
use tokio::{task::JoinSet, time::sleep};

/// A process that dies twice within two seconds of what it serves first has died of that, as it
/// seems, and goes back to what was before: this is about other deaths.
const LIFE: Duration = Duration::from_secs(3);

/// Within this there is traffic again, on however busy a machine.
const SOON: Duration = Duration::from_secs(15);

/// As `KILLS=200`, in half an hour; `SEED=N` chooses the same changes and moments again.
#[tokio::test]
async fn killed_at_random_moments_under_load_it_comes_to_what_was_wanted() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (kills, seed) = (number("KILLS").unwrap_or(5), number("SEED").unwrap_or_else(rand::random));
    println!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let mut weir = start().await;
    let mut operator = Operator::new();
    let asleep = unique("dozes");
    weir.adopt(&operator.app);
    operator.ask(&weir, &Change::Put).await.unwrap();
    let sleep_soon = json!({"pause_after": "200ms", "stop_after": "600ms", "min_awake": "0s"});
    let fields = json!({"sleep": sleep_soon, "env": {"WARM_UP_MS": "100"}});
    weir.put_ready(&asleep, spec(fields)).await;
    let mut traffic = Traffic::default();
    (0..4).for_each(|_| traffic.add(&weir, &operator.app, Duration::from_millis(5)));
    // Between two requests it falls asleep, more or less deeply.
    traffic.add(&weir, &asleep, Duration::from_millis(300));
    traffic.add(&weir, &asleep, Duration::from_millis(1_100));
    let (mut longest, mut born) = (Duration::ZERO, Instant::now());
    for kill in 1..=kills {
        let change = operator.choose(&mut chance);
        println!("{kill}: {change:?} for {operator:?}");
        sleep((born + LIFE).saturating_duration_since(Instant::now())).await;
        // Whether it is done in time, or at all, is left to chance.
        let moment = sleep(Duration::from_millis(chance.random_range(0..2_000)));
        tokio::select! {
            biased;
            () = moment => {}
            () = async { drop(operator.ask(&weir, &change).await); std::future::pending().await } => {}
        }
        let from = Instant::now();
        weir.kill();
        weir.restart().await;
        served_again(&weir, &operator.app).await;
        traffic.was_down(from);
        println!("{kill}: nobody was there for {:?}", from.elapsed());
        longest = longest.max(from.elapsed());
        born = Instant::now();
        operator.ask(&weir, &change).await.unwrap();
        operator.is_obeyed(&weir).await;
    }
    let sent = traffic.end(&weir).await;
    for app in [&operator.app, &asleep] {
        weir.api("DELETE", &format!("/v1/apps/{app}"), None).await;
        let gone = async || containers(app).is_empty().then_some(());
        wait_for("no container to be left", gone).await;
    }
    println!("{kills} kills, {sent} requests, nobody there for {longest:?} at most");
}

async fn served_again(weir: &Weir, app: &str) {
    let began = Instant::now();
    loop {
        let (status, text) = weir.get(app, "/").await;
        // One that was held until it could be answered was not answered soon.
        assert!(began.elapsed() < SOON, "{status}: {text}\n{}", weir.log());
        if status == 200 {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Started on ports that it has again each time.
async fn start() -> Weir {
    let mut weir = Weir::start().await;
    let admin = weir.admin.trim_start_matches("http://").to_owned();
    let ports = [("--http", weir.http.to_string()), ("--https", weir.https.to_string())];
    let ports = ports.into_iter().chain([("--admin", admin)]);
    let args: Vec<_> = ports.flat_map(|(flag, address)| [flag.to_owned(), address]).collect();
    weir.kill();
    let weir = Weir::restart_with(weir, &args.iter().map(String::as_str).collect::<Vec<_>>()).await;
    weir.ready().await;
    weir
}

/// What somebody wants, whatever happens.
#[derive(Debug)]
struct Operator {
    app: String,
    instances: u64,
    /// Of the spec.
    version: u32,
    /// That is to answer: after a rollback another one.
    live: u32,
    /// That can be gone back to.
    former: Option<u32>,
}

#[derive(Debug)]
enum Change {
    /// The app becomes what is wanted.
    Put,
    RollBack {
        key: String,
    },
}

impl Operator {
    fn new() -> Self {
        Self { app: unique("kills"), instances: 2, version: 1, live: 1, former: None }
    }

    fn choose(&mut self, chance: &mut StdRng) -> Change {
        let kind = chance.random_range(0..5);
        if let (0 | 1, Some(former)) = (kind, self.former.take()) {
            self.live = former;
            return Change::RollBack { key: format!("back-{}", chance.random::<u64>()) };
        }
        if kind < 4 {
            self.former = Some(self.live);
            self.version += 1;
            self.live = self.version;
        }
        if kind > 2 {
            self.instances = chance.random_range(1..=3);
        }
        Change::Put
    }

    /// Asks for it, once; whoever gets no answer may ask again.
    async fn ask(&self, weir: &Weir, change: &Change) -> Result<(), String> {
        let path = format!("/v1/apps/{}", self.app);
        let request = match change {
            Change::Put => {
                let version = self.version.to_string();
                let fields = json!({
                    "instances": self.instances,
                    "env": {"VERSION": version, "WARM_UP_MS": "100"},
                    "rollout": {"keep": "3s", "bake": "0s", "stop_grace": "2s"},
                });
                let body = json!({"kind": "App", "name": self.app, "spec": spec(fields)});
                weir.request("PUT", &format!("{path}?wait=30s")).json(&body)
            }
            Change::RollBack { key } => {
                let path = format!("{path}/actions/rollback?wait=30s");
                weir.request("POST", &path).header("Idempotency-Key", key).json(&json!({}))
            }
        };
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        match answer.error_for_status_ref() {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}: {}", answer.text().await.unwrap_or_default())),
        }
    }

    /// Waits until the app is as wanted, and nothing else of it runs.
    async fn is_obeyed(&self, weir: &Weir) {
        let path = format!("/v1/apps/{}", self.app);
        let what = format!("{self:?}\n{}", weir.log());
        wait_for(&what, async || {
            let (_, shown) = weir.api("GET", &path, None).await;
            let status = &shown["status"];
            let live = status["live_deployment"].as_u64()?;
            let is_ready = status["phase"] == "ready"
                && status["ready_instances"] == self.instances
                && status["deployment"] == live;
            let wanted = |ordinal| format!("weir-{}-{live}-{ordinal}", self.app);
            let mut found = containers(&self.app);
            let all_run = (0..self.instances).all(|ordinal| {
                found.remove(&wanted(ordinal)).is_some_and(|state| state == "running")
            });
            // Those of a former deployment may be kept.
            let others_rest = found.values().all(|state| state == "paused");
            (is_ready && all_run && others_rest).then_some(())
        })
        .await;
        let (status, text) = weir.get(&self.app, "/").await;
        let is_live = text.contains(&format!("version {},", self.live));
        assert!(status == 200 && is_live, "{self:?}: {status} {text}\n{}", weir.log());
    }
}

/// Clients that ask all the time.
#[derive(Default)]
struct Traffic {
    clients: JoinSet<(usize, Vec<Failure>)>,
    stop: Arc<AtomicBool>,
    /// From when until when nobody was there.
    downs: Mutex<Vec<(Instant, Instant)>>,
}

#[derive(Debug)]
struct Failure {
    sent: Instant,
    ended: Instant,
    #[expect(dead_code, reason = "it is shown when the test fails")]
    what: String,
    /// No answer, as when nobody is there.
    is_silence: bool,
}

impl Traffic {
    fn add(&mut self, weir: &Weir, app: &str, pause: Duration) {
        let client = weir.client_builder().timeout(Duration::from_secs(20)).build().unwrap();
        let (url, stop) = (weir.url(app, "/"), self.stop.clone());
        self.clients.spawn(async move {
            let (mut answered, mut failures) = (0, Vec::new());
            while !stop.load(Relaxed) {
                let sent = Instant::now();
                let (what, is_silence) = match ask(&client, &url).await {
                    Ok((200, _)) => {
                        answered += 1;
                        sleep(pause).await;
                        continue;
                    }
                    Ok((status, text)) => (format!("{status}: {text}"), false),
                    Err(error) => (format!("{error:?}"), true),
                };
                failures.push(Failure { sent, ended: Instant::now(), what, is_silence });
                sleep(pause).await;
            }
            (answered, failures)
        });
    }

    fn was_down(&self, from: Instant) {
        self.downs.lock().unwrap().push((from, Instant::now()));
    }

    /// Fails if a request did that was not just to nobody. How many were answered.
    async fn end(self, weir: &Weir) -> usize {
        self.stop.store(true, Relaxed);
        let (answered, failures): (Vec<_>, Vec<_>) =
            self.clients.join_all().await.into_iter().unzip();
        let downs = self.downs.into_inner().unwrap();
        let is_excused = |failure: &Failure| {
            let met = |(from, to): &(_, _)| failure.sent <= *to && failure.ended >= *from;
            failure.is_silence && downs.iter().any(met)
        };
        let failures: Vec<_> = failures.into_iter().flatten().filter(|f| !is_excused(f)).collect();
        assert!(failures.is_empty(), "{failures:#?}\n{}", weir.log());
        answered.iter().sum()
    }
}

async fn ask(client: &reqwest::Client, url: &str) -> reqwest::Result<(u16, String)> {
    let answer = client.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}
