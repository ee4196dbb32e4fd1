//! Every request, through all that an operator does with an app and its hosts, and through the loss
//! of one of them: against real engines, on machines of their own.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weir_test_host::{Host, Reach};

use super::{
    arrivals::Arrivals,
    book::{Balance, Book},
    changes, clients,
    operator::Operator,
    server::{DEADLINE, Server},
};
use crate::{report::Report, server::image};

/// How much is done: each round is five deployments by every strategy, two rollbacks, one drain,
/// and more instances and less.
#[derive(Clone, Debug, Args)]
pub struct Rounds {
    /// Deployments: rounds of five deployments, two rollbacks and one drain
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
    /// Deployments: requests a second, about
    #[arg(long, default_value_t = 1_300)]
    pub rate: u32,
}

/// Fewer requests a second than this prove less than was promised.
const PROMISED_RATE: f64 = 1000.0;

/// What came of it.
#[derive(Debug)]
pub struct Proof {
    /// Of the negative control: requests that were noticed to go wrong when containers were killed.
    pub noticed: usize,
    pub sent: usize,
    /// Requests that were on the host when it was lost, and failed or were sent again.
    pub went_down: usize,
    /// Every other request that was not answered by exactly one instance, and what happened then.
    pub wrong: Vec<String>,
    /// Seconds that there were requests for.
    pub took: f64,
    pub done: Done,
}

/// What was done meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub deployments: usize,
    pub rollbacks: usize,
    pub drains: usize,
    pub scalings: usize,
    pub losses: usize,
}

pub(crate) async fn measure(report: &mut Report, rounds: &Rounds) -> anyhow::Result<()> {
    let proof = prove(rounds).await?;
    let Proof { noticed, sent, went_down, wrong, took, done } = &proof;
    let rate = *sent as f64 / took;
    for (name, value, unit, aim) in [
        ("Deployments: noticed of containers that were killed", *noticed as f64, "", "> 0"),
        ("Deployments: requests sent", *sent as f64, "", ""),
        ("  a second", rate, "", ">= 1000"),
        ("  not answered by exactly one instance", wrong.len() as f64, "", "0"),
        ("  under way to the host that was lost", *went_down as f64, "", ""),
        ("  deployments meanwhile", done.deployments as f64, "", "50"),
        ("  rollbacks", done.rollbacks as f64, "", "20"),
        ("  drains of a host", done.drains as f64, "", "10"),
        ("  changes of the number of instances", done.scalings as f64, "", ""),
        ("  hosts lost and returned", done.losses as f64, "", "1"),
        ("  took", *took, "s", ""),
    ] {
        report.figure(name, value, unit, aim);
    }
    ensure!(*noticed > 0, "killed containers were not noticed: the rest means nothing");
    ensure!(wrong.is_empty(), "{} requests went wrong", wrong.len());
    ensure!(rate >= PROMISED_RATE, "{rate:.0} requests a second are too few");
    Ok(())
}

/// Does it all, and tells what came of the requests.
///
/// # Errors
/// When the server does not do what it is asked, or what is needed for it is not there.
pub async fn prove(rounds: &Rounds) -> anyhow::Result<Proof> {
    let image = image()?;
    let machines = [("a", Reach::Tcp), ("b", Reach::Tls), ("c", Reach::Tcp)];
    // It waits for processes, and this is all that happens by then.
    let hosts = tokio::task::block_in_place(|| Host::start_all(machines, &image));
    let server = Server::start().await?;
    for host in &hosts {
        let path = format!("/v1/hosts/{}", host.name);
        let spec = host.spec(&json!({
            "region": REGION,
            "disconnect": {"after": "2s", "lost_after": "4s"},
        }));
        let manifest = json!({"kind": "Host", "name": host.name, "spec": spec});
        server.api("PUT", &path, manifest).await?;
        wait_for("the engine of a host", async || {
            let shown = server.api("GET", &path, Value::Null).await?;
            Ok((shown["status"]["state"] == "ready").then_some(()))
        })
        .await?;
    }
    let noticed = control(&server, &hosts, &image, rounds.rate).await?;

    let book = Arc::new(Book::new());
    let (_arrivals, mut operator) =
        begin("ledger", LEDGER_PORT, &server, &hosts, &image, &book).await?;
    let mut clients = clients::start(&server, "ledger", &book, Some(rounds.rate))?;
    let work = async {
        for round in 0..rounds.rounds {
            operator.round(round, round == rounds.rounds / 2).await?;
        }
        anyhow::Ok(())
    };
    let worked = tokio::select! {
        worked = work => worked,
        stalled = changes::stalled(&book) => stalled,
    };
    let took = book.age();
    let balance = finish(&book, &mut clients).await;
    println!("  {balance}");
    worked.with_context(|| server.complaints())?;
    operator.nothing_is_left().await?;
    let Balance { sent, went_down, wrong, .. } = balance;
    Ok(Proof { noticed, sent, went_down, wrong, took: took.as_secs_f64(), done: operator.done })
}

const REGION: &str = "test";
/// Where the instances of the app tell what arrives, and those of the negative control.
const LEDGER_PORT: u16 = 7000;
const CONTROL_PORT: u16 = 7001;

/// Makes an app whose requests are written down in a book.
async fn begin<'a>(
    app: &'static str,
    port: u16,
    server: &'a Server,
    hosts: &'a [Host],
    image: &str,
    book: &'a Arc<Book>,
) -> anyhow::Result<(Vec<Arrivals>, Operator<'a>)> {
    let arrivals =
        hosts.iter().enumerate().map(|(n, host)| Arrivals::of(n, host.listen(port), book));
    let arrivals = arrivals.collect::<Result<_, _>>()?;
    let ledger = format!("{}:{port}", Host::FROM_CONTAINERS);
    let spec = json!({
        "image": image,
        // Some are always under way.
        "env": {"LEDGER": ledger, "ANSWER_MS": "10"},
        "health": {"type": "http", "path": "/healthz", "interval": "200ms"},
        "placement": {"region": REGION},
        "http": "serve",
        "timeouts": {"connect": "1s", "read": "10s"},
    });
    let mut operator = Operator::new(server, hosts, book, app, spec);
    operator.deploy().await?;
    Ok((arrivals, operator))
}

/// Kills containers under requests, to see whether that is noticed.
async fn control(server: &Server, hosts: &[Host], image: &str, rate: u32) -> anyhow::Result<usize> {
    const APP: &str = "control";
    let book = Arc::new(Book::new());
    let (_arrivals, _operator) = begin(APP, CONTROL_PORT, server, hosts, image, &book).await?;
    let mut clients = clients::start(server, APP, &book, Some(rate))?;
    for host in hosts {
        let enough = book.ended() + 200;
        wait_for("requests", async || Ok((book.ended() >= enough).then_some(()))).await?;
        for container in host.running() {
            host.docker(&["kill", &container]);
        }
    }
    let enough = book.ended() + 200;
    wait_for("requests", async || Ok((book.ended() >= enough).then_some(()))).await?;
    let balance = finish(&book, &mut clients).await;
    println!("  with containers that are killed: {balance:.3}");
    server.api("DELETE", &format!("/v1/apps/{APP}"), Value::Null).await?;
    Ok(balance.wrong.len())
}

/// Ends the requests, and adds up once all is written down.
async fn finish(book: &Book, clients: &mut tokio::task::JoinSet<()>) -> Balance {
    book.close();
    while clients.join_next().await.is_some() {}
    let deadline = Instant::now() + Duration::from_secs(10);
    while !book.is_complete() && Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
    }
    book.balance()
}

/// Waits until something is there.
pub(super) async fn wait_for<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
