//! The crash matrix: whatever the moment at which the program dies, what comes of the operator's
//! wishes is the same. It dies before and after every commit of the store and every call that
//! changes something in the engine (`control/src/failpoint.rs`), one moment for each run.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    env, fs,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use support::{DEADLINE, Weir, containers, spec, unique};

/// Runs at once: most of each is waiting.
const AT_ONCE: usize = 4;
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// The moments of a commit, of a write of the key file, and of an action of the loop.
const POINTS: [&str; 17] = [
    "before-commit",
    "after-commit",
    "before-key",
    "after-key",
    "before-create",
    "after-create",
    "before-start",
    "after-start",
    "before-pause",
    "after-pause",
    "before-unpause",
    "after-unpause",
    "before-stop",
    "after-stop",
    "before-remove",
    "amid-remove",
    "after-remove",
];

/// What the scenario came to: everything that an operator or an end user can see. The app's name
/// is `APP` in all of it.
#[derive(Debug, PartialEq)]
struct End {
    /// Without its times and revision, and what is said to people.
    app: Value,
    secrets: Value,
    containers: BTreeMap<String, String>,
    /// What end users got after each step.
    answers: Vec<String>,
}

/// One run of the scenario, with the program started again when it has died.
struct Run {
    weir: Weir,
    app: String,
    crashes: u32,
}

impl Run {
    async fn begin(failpoint: Option<&str>) -> Self {
        let weir = Weir::start_set_up(|command, _| {
            command.envs(failpoint.map(|point| ("FAILPOINT", point)));
        });
        let (weir, app) = (weir.await, unique("matrix"));
        weir.adopt(&app);
        let mut run = Self { weir, app, crashes: 0 };
        // What happens at a start is noted, so that it may die before anybody asks for anything.
        while !run.is_ready().await {
            if run.weir.ended().is_some() {
                run.restart().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
        run
    }

    async fn is_ready(&self) -> bool {
        let answer = reqwest::get(format!("{}/readyz", self.weir.admin)).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// The whole life of an app. Every step is asked for until it is done, as whoever gets no
    /// answer does, and all of them may be asked for twice.
    async fn live(&mut self) -> End {
        let path = format!("/v1/apps/{}", self.app);
        let at = |rest: &str| format!("{path}{rest}");
        let (none, is_ok) = (json!({}), |status: u16, _: &Value| status == 200);
        let mut answers = Vec::new();
        for (version, instances) in [("one", 1), ("two", 1), ("two", 2)] {
            // A former deployment is kept for no time, so that the end is soon.
            let rollout = json!({"keep": "0s"});
            let fields =
                json!({"env": {"NAME": version}, "instances": instances, "rollout": rollout});
            let body = json!({"kind": "App", "name": self.app, "spec": spec(fields)});
            self.ask(Method::PUT, &at("?wait=5s"), &body, is_ready).await;
            answers.push(self.get().await);
            // With another key each time, which the next containers need.
            let secret = json!({"VERSION": "hidden-value"});
            self.ask(Method::PATCH, &at("/secrets?wait=5s"), &secret, is_ok).await;
            self.ask(Method::POST, "/v1/secrets/actions/rotate-key", &none, is_ok).await;
            self.ask(Method::GET, &at("?wait=5s"), &none, is_ready).await;
            answers.push(self.get().await);
        }
        for level in ["paused", "stopped"] {
            let body = json!({"level": level});
            let is_asleep = |_, app: &Value| app["status"]["phase"] == level;
            self.ask(Method::POST, &at("/actions/sleep?wait=5s"), &body, is_asleep).await;
            // It wakes the app.
            answers.push(self.get().await);
        }
        // If it dies before it has noted that it serves again, it sleeps on until somebody asks:
        // that may be at each of these.
        let wake = at("/actions/wake?wait=5s");
        self.ask(Method::POST, &wake, &none, is_ready).await;
        let containers = self.settled(2).await;
        let mut app = self.ask(Method::POST, &wake, &none, is_ready).await;
        // Nor does it matter how many steps a deployment took that could be skipped: each is a
        // revision of the store.
        for field in ["created_at", "updated_at", "url", "revision"] {
            app.as_object_mut().unwrap().remove(field);
            app["status"].as_object_mut().unwrap().remove(field);
        }
        for condition in app["status"]["conditions"].as_array_mut().unwrap() {
            // A message may tell how many snapshots there were.
            for field in ["message", "last_transition_at"] {
                condition.as_object_mut().unwrap().remove(field);
            }
        }
        let mut secrets = self.ask(Method::GET, &at("/secrets"), &none, is_ok).await;
        for field in ["updated_at", "version"] {
            secrets["items"][0].as_object_mut().unwrap().remove(field);
        }
        let is_gone = |status: u16, _: &Value| status == 404;
        self.ask(Method::DELETE, &path, &none, is_gone).await;
        self.settled(0).await;
        let unnamed = |text: String| text.replace(&self.app, "APP");
        End {
            app: serde_json::from_str(&unnamed(app.to_string())).unwrap(),
            secrets,
            containers: containers.into_iter().map(|(name, s)| (unnamed(name), s)).collect(),
            answers: answers.into_iter().map(unnamed).collect(),
        }
    }

    /// Waits until so many containers are left, and all of them run.
    async fn settled(&mut self, count: usize) -> BTreeMap<String, String> {
        let began = Instant::now();
        loop {
            let found = containers(&self.app);
            if found.len() == count && found.values().all(|state| state == "running") {
                return found;
            }
            assert!(began.elapsed() < DEADLINE, "{found:?}\n{}", self.weir.log());
            if self.weir.ended().is_some() {
                self.restart().await;
                let wake = format!("/v1/apps/{}/actions/wake", self.app);
                self.try_ask(Method::POST, &wake, &json!({})).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks until it is done.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        is_done: impl Fn(u16, &Value) -> bool,
    ) -> Value {
        let began = Instant::now();
        loop {
            let asked = self.try_ask(method.clone(), path, body).await;
            match asked {
                Some((status, answer)) if is_done(status, &answer) => return answer,
                Some(other) => {
                    assert!(began.elapsed() < DEADLINE, "{path}: {other:#?}\n{}", self.weir.log());
                }
                None => self.restart().await,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `None` when there is no answer.
    async fn try_ask(&self, method: Method, path: &str, body: &Value) -> Option<(u16, Value)> {
        let url = format!("{}{path}", self.weir.admin);
        let token = fs::read_to_string(self.weir.state.join("admin.token")).unwrap();
        let request = reqwest::Client::new().request(method, url).bearer_auth(token).json(body);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    /// A request of an end user, sent again as long as nobody is there to answer: what it says.
    async fn get(&mut self) -> String {
        loop {
            let request = self.weir.client().get(self.weir.url(&self.app, "/"));
            let answer = async {
                let answer = request.send().await?;
                Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.text().await?))
            };
            match answer.await {
                // Which of its containers it was is not the same in every run.
                Ok((status, text)) => {
                    let text = text.split(", on ").next().unwrap_or_default().to_owned();
                    return format!("{status} {text}");
                }
                Err(_) => self.restart().await,
            }
        }
    }

    /// Starts the program again, which has died or is about to.
    async fn restart(&mut self) {
        self.weir.end().await;
        self.crashes += 1;
        assert_eq!(self.crashes, 1, "it died again: {}", self.weir.log());
        self.weir.restart().await;
        self.weir.ready().await;
    }
}

fn is_ready(status: u16, app: &Value) -> bool {
    (200..300).contains(&status) && app["status"]["phase"] == "ready"
}

/// Kills at a point as it is passed for the `count`th time; returns whether it ever was.
async fn kill_at(point: &str, count: u32, expected: &End) -> bool {
    let failpoint = format!("{point}:{count}");
    let mut run = Run::begin(Some(&failpoint)).await;
    let end = run.live().await;
    assert_eq!(end, *expected, "killed at {failpoint}\n{}", run.weir.log());
    run.crashes == 1
}

/// At each point once, the first or the second time that it is passed, by chance: `SEED=N` says
/// again which. `CRASHES=all`, in some minutes, at each point each time.
#[tokio::test]
async fn killed_at_any_commit_and_any_call_to_the_engine_it_comes_to_the_same_end() {
    let seed = env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let all = env::var("CRASHES").is_ok_and(|wanted| wanted == "all");
    println!("seed {seed}");
    let expected = Run::begin(None).await.live().await;
    let last = expected.answers.last().unwrap();
    assert_eq!(last, "200 hello from two, version hidden-value");
    let expected = &expected;
    let kills = POINTS.into_iter().enumerate().map(async |(i, point)| {
        if !all {
            let count = 1 + (u32::rotate_right(seed, i as u32) & 1);
            assert!(kill_at(point, count, expected).await, "{point} is not passed {count} times");
            return;
        }
        let mut count = 1;
        while kill_at(point, count, expected).await {
            count += 1;
        }
        println!("{point}: {} times", count - 1);
        assert!(count > 1, "{point} is never passed: the matrix has a hole");
    });
    stream::iter(kills).buffer_unordered(AT_ONCE).collect::<()>().await;
}
