//! What is done to the server while requests come, spread over them evenly.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Scale,
    book::Book,
    server::{DEADLINE, Server},
    upstream::Upstream,
};

/// Between two looks at a counter.
const POLL: Duration = Duration::from_millis(5);

/// Waits until its share of the requests has ended, so that `n` of `of` things come evenly.
pub(super) async fn due(book: &Book, scale: &Scale, n: usize, of: usize) {
    let share = n as f64 / (of as f64 + 1.0) * scale.requests as f64;
    while (book.ended() as f64) < share {
        sleep(POLL).await;
    }
}

/// Those who make apps change at once, each one its own.
const WRITERS: usize = 4;

/// Changes other apps' host names and limits until so many snapshots have followed on each other.
/// Returns how many did.
pub(super) async fn swaps(server: &Server, book: &Book, scale: &Scale) -> anyhow::Result<usize> {
    let before = server.generation().await?;
    let swapped = AtomicU64::new(0);
    let until = scale.swaps as u64;
    let watch = async {
        while swapped.load(Relaxed) < until {
            swapped.store(server.generation().await?.saturating_sub(before), Relaxed);
            sleep(POLL).await;
        }
        Ok(())
    };
    let writer = async |writer: usize| {
        let app = format!("changing-{writer}");
        let mut change = 0;
        while swapped.load(Relaxed) < until {
            due(book, scale, swapped.load(Relaxed) as usize, scale.swaps).await;
            let name = format!("changing-{writer}-{}.example", change % 2);
            // Nobody listens there, and nobody asks for it.
            let spec = json!({
                "upstreams": ["127.0.0.1:9"],
                "hostnames": [name],
                "limits": {"in_flight": 1 + change % 1000},
            });
            server.put(&app, spec).await?;
            change += 1;
        }
        anyhow::Ok(())
    };
    let writers = futures::future::try_join_all((0..WRITERS).map(writer));
    futures::future::try_join(watch, writers).await?;
    Ok(swapped.load(Relaxed) as usize)
}

/// The upstreams of the app that is asked.
pub(super) struct Pool {
    serving: Vec<Upstream>,
    started: u16,
    /// Out of the pool, with what had arrived by then.
    retired: Option<(Upstream, usize)>,
    /// Requests that arrived at one after it had nothing to do any more.
    late: usize,
}

/// Upstreams at a time.
const UPSTREAMS: usize = 3;

/// An upstream out of the pool on which nothing has been under way for so long is at rest: a
/// request from before the change is on its way for far less.
const REST: Duration = Duration::from_millis(500);

impl Pool {
    pub(super) async fn start(
        server: &Server,
        app: &str,
        book: &Arc<Book>,
    ) -> anyhow::Result<Self> {
        let mut pool = Self { serving: Vec::new(), started: 0, retired: None, late: 0 };
        for _ in 0..UPSTREAMS {
            let upstream = pool.next(book).await?;
            pool.serving.push(upstream);
        }
        server.put(app, pool.spec()).await?;
        Ok(pool)
    }

    async fn next(&mut self, book: &Arc<Book>) -> anyhow::Result<Upstream> {
        self.started += 1;
        Upstream::start(self.started, book.clone()).await
    }

    fn spec(&self) -> Value {
        let addresses: Vec<_> = self.serving.iter().map(|upstream| upstream.address).collect();
        json!({"upstreams": addresses, "http": "serve"})
    }

    /// Replaces one upstream after another.
    pub(super) async fn replacements(
        &mut self,
        server: &Server,
        app: &str,
        book: &Arc<Book>,
        scale: &Scale,
    ) -> anyhow::Result<()> {
        for n in 1..=scale.replacements {
            due(book, scale, n, scale.replacements).await;
            let next = self.next(book).await?;
            let place = n % UPSTREAMS;
            let former = mem::replace(&mut self.serving[place], next);
            let number = self.started;
            book.note(format!("upstream {number} is to replace the one at {}", former.address));
            server.put(app, self.spec()).await?;
            self.leave(place, former).await?;
            book.note(format!("upstream {number} has replaced it"));
        }
        Ok(())
    }

    /// Waits until nothing is on its way to one that has been replaced, and closes the one before
    /// it: so long was it there for requests that should not have come.
    async fn leave(&mut self, place: usize, former: Upstream) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while self.serving[place].arrived() == 0 {
            ensure!(Instant::now() < deadline, "a new upstream gets no requests");
            sleep(POLL).await;
        }
        let mut rest = Instant::now();
        let mut arrived = former.arrived();
        while rest.elapsed() < REST {
            if !former.is_idle() || former.arrived() != arrived {
                (rest, arrived) = (Instant::now(), former.arrived());
            }
            ensure!(Instant::now() < deadline, "an upstream that was replaced still gets requests");
            sleep(POLL).await;
        }
        self.close_retired();
        self.retired = Some((former, arrived));
        Ok(())
    }

    /// How many requests came to an upstream after it had been left.
    pub(super) fn late(mut self) -> usize {
        self.close_retired();
        self.late
    }

    fn close_retired(&mut self) {
        if let Some((upstream, arrived)) = self.retired.take() {
            self.late += upstream.arrived() - arrived;
        }
    }
}

/// Lets one program follow the other, again and again.
pub(super) async fn upgrades(server: &Server, book: &Book, scale: &Scale) -> anyhow::Result<()> {
    for n in 1..=scale.upgrades {
        due(book, scale, n, scale.upgrades).await;
        book.note(format!("upgrade {n} begins"));
        server.upgrade().await?;
        book.note(format!("upgrade {n}: the new program serves"));
    }
    Ok(())
}

/// Ends and starts the program where it would have been upgraded.
pub(super) async fn crashes(server: &mut Server, book: &Book, scale: &Scale) -> anyhow::Result<()> {
    for n in 1..=scale.upgrades {
        due(book, scale, n, scale.upgrades).await;
        book.note(format!("crash {n}"));
        server.crash()?;
    }
    Ok(())
}

/// Fails when no request has ended for too long: nothing that waits for its share would come.
pub(super) async fn stalled(book: &Book) -> anyhow::Result<()> {
    let (mut ended, mut since) = (book.ended(), Instant::now());
    while since.elapsed() < 2 * DEADLINE {
        if book.ended() != ended {
            (ended, since) = (book.ended(), Instant::now());
        }
        sleep(DEADLINE / 60).await;
    }
    bail!("no request has ended for {:?}", 2 * DEADLINE)
}
