//! Every request is written down where it is sent, where it arrives and where it is answered, while
//! everything is changed that can be: the three must agree.

mod arrivals;
mod book;
mod changes;
mod clients;
pub(crate) mod deployments;
mod operator;
pub(crate) mod returning;
pub(crate) mod server;
mod upstream;

use std::{sync::Arc, time::Instant};

use anyhow::ensure;
use clap::Args;

use crate::report::Report;
use book::{Balance, Book};
use changes::Pool;
use server::Server;

const APP: &str = "ledger";

/// How much the ledger does. The whole of what is promised is 1000000 requests, 10000 swaps, 100
/// replacements and 20 upgrades.
#[derive(Clone, Debug, Args)]
pub(crate) struct Scale {
    /// Ledger: at least so many requests and WebSocket messages
    #[arg(long, default_value_t = 100_000)]
    requests: usize,
    /// Ledger: swaps of the snapshot
    #[arg(long, default_value_t = 1_000)]
    swaps: usize,
    /// Ledger: replacements of an upstream
    #[arg(long, default_value_t = 20)]
    replacements: usize,
    /// Ledger: upgrades of the program
    #[arg(long, default_value_t = 5)]
    upgrades: usize,
}

/// Enough to notice a gap.
const CONTROL: Scale = Scale { requests: 2_000, swaps: 0, replacements: 0, upgrades: 2 };

pub(crate) async fn measure(report: &mut Report, scale: &Scale) -> anyhow::Result<()> {
    let balance = control().await?;
    report.figure("Ledger: noticed of 2 crashes", balance.wrong.len() as f64, "", "> 0");
    println!("  with crashes instead of upgrades: {balance:.3}");
    ensure!(!balance.wrong.is_empty(), "a crash was not noticed: what follows would mean nothing");

    let began = Instant::now();
    let Run { balance, swapped, late } = run(scale).await?;
    let Balance { sent, accepted, answered, twice, posts_twice, wrong, .. } = &balance;
    for (name, count, aim) in [
        ("Ledger: requests sent", *sent, ">= 1000000"),
        ("  accepted", *accepted, "all"),
        ("  answered", *answered, "all"),
        ("  accepted twice", *twice, "0"),
        ("  of these POST", *posts_twice, "0"),
        ("  not answered by exactly one upstream", wrong.len(), "0"),
        ("  at an upstream after it was left", late, "0"),
        ("  swaps of the snapshot meanwhile", swapped, ">= 10000"),
        ("  replacements of an upstream", scale.replacements, "100"),
        ("  upgrades of the program", scale.upgrades, "20"),
    ] {
        report.figure(name, count as f64, "", aim);
    }
    report.figure("  took", began.elapsed().as_secs_f64(), "s", "");
    ensure!(*sent >= scale.requests, "{sent} requests are too few");
    ensure!(wrong.is_empty(), "{} requests went wrong", wrong.len());
    ensure!(late == 0, "{late} requests came too late");
    Ok(())
}

/// The same with crashes in the place of upgrades, to see whether they are noticed.
async fn control() -> anyhow::Result<Balance> {
    let (mut server, book) = (Server::start().await?, Arc::new(Book::new()));
    let _pool = Pool::start(&server, APP, &book).await?;
    let mut clients = clients::start(&server, APP, &book, None)?;
    tokio::select! {
        changed = changes::crashes(&mut server, &book, &CONTROL) => changed?,
        stalled = changes::stalled(&book) => stalled?,
    }
    changes::due(&book, &CONTROL, 1, 0).await;
    book.close();
    while clients.join_next().await.is_some() {}
    Ok(book.balance())
}

struct Run {
    balance: Balance,
    swapped: usize,
    /// Requests that came to an upstream after it had been left.
    late: usize,
}

async fn run(scale: &Scale) -> anyhow::Result<Run> {
    let (mut server, book) = (Server::start().await?, Arc::new(Book::new()));
    let mut pool = Pool::start(&server, APP, &book).await?;
    let mut clients = clients::start(&server, APP, &book, None)?;
    let changes = async {
        let (swapped, (), ()) = tokio::try_join!(
            changes::swaps(&server, &book, scale),
            pool.replacements(&server, APP, &book, scale),
            changes::upgrades(&server, &book, scale),
        )?;
        changes::due(&book, scale, 1, 0).await;
        anyhow::Ok(swapped)
    };
    let swapped = tokio::select! {
        swapped = changes => swapped,
        stalled = changes::stalled(&book) => stalled.map(|()| 0),
    };
    book.close();
    while clients.join_next().await.is_some() {}
    let balance = book.balance();
    println!("  {balance}");
    if swapped.is_err() || !balance.wrong.is_empty() {
        println!("{}", server.complaints());
    }
    let swapped = swapped?;
    let late = pool.late();
    server.predecessors_ended().await?;
    Ok(Run { balance, swapped, late })
}
