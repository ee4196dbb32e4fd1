//! Ends the process when a part of it stands still, so that its supervisor starts it anew: with
//! what it served last, but for what it dies of again and again.
//!
//! A thread of its own, outside of what it watches. It costs requests nothing.

use std::{
    io,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, Release},
        },
    },
    thread,
    time::Duration,
};

use tokio::runtime::Handle;
use weir_control::Hints;

/// Between two looks. Looks are counted, and not the time: while the machine sleeps, or the process
/// is stopped, nobody looks.
const LOOK: Duration = Duration::from_millis(500);
/// Between two proofs of life of the control loop.
const TICK: Duration = Duration::from_millis(200);
/// For the last line of the log to get out.
const LAST_WORDS: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub(crate) struct Watchdog {
    ticks: Arc<AtomicU64>,
    well: Arc<AtomicBool>,
}

impl Watchdog {
    /// Watches from now on; with a limit of zero nothing is watched.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(limit: Duration, data_plane: Handle) -> io::Result<Self> {
        let this = Self { ticks: Arc::default(), well: Arc::new(AtomicBool::new(true)) };
        if !limit.is_zero() {
            let (ticks, well) = (this.ticks.clone(), this.well.clone());
            let watch = move || watch(limit, &data_plane, &ticks, &well);
            thread::Builder::new().name("weir-watchdog".to_owned()).spawn(watch)?;
        }
        Ok(this)
    }

    /// False while a part stands still.
    pub(crate) fn well(&self) -> Arc<AtomicBool> {
        self.well.clone()
    }

    /// Proves again and again that the control loop goes round, as long as there is one. Never
    /// returns.
    pub(crate) fn tick(&self, hints: Arc<Hints>) -> impl Future<Output = ()> + use<> {
        let ticks = self.ticks.clone();
        async move {
            loop {
                // Without a loop, as at a hand-over, there is none to stand still.
                hints.pulse().await;
                ticks.fetch_add(1, Release);
                tokio::time::sleep(TICK).await;
            }
        }
    }
}

fn watch(limit: Duration, data_plane: &Handle, ticks: &AtomicU64, well: &AtomicBool) {
    let patience = limit.as_millis().div_ceil(LOOK.as_millis());
    let mut parts: Vec<Part> = Vec::new();
    loop {
        thread::sleep(LOOK);
        let metrics = data_plane.metrics();
        let control = std::iter::once(Some((ticks.load(Relaxed), Duration::ZERO)));
        let workers = (0..metrics.num_workers()).map(|worker| {
            let parked = metrics.worker_park_unpark_count(worker);
            // An odd count: it waits for something to do.
            parked.is_multiple_of(2).then(|| (parked, metrics.worker_total_busy_duration(worker)))
        });
        for (i, mark) in control.chain(workers).enumerate() {
            match parts.get_mut(i) {
                Some(part) => part.look(mark),
                None => parts.push(Part { mark, looks: 0 }),
            }
        }
        well.store(parts.iter().all(|part| part.looks == 0), Relaxed);
        let still = |part: &Part| u128::from(part.looks) >= patience;
        if let Some(i) = parts.iter().position(still) {
            end(&name(i), limit);
        }
    }
}

/// The control loop, or a thread that carries requests.
struct Part {
    /// What changes while it lives; `None` while it has nothing to do.
    mark: Option<(u64, Duration)>,
    /// So often it has not.
    looks: u32,
}

impl Part {
    fn look(&mut self, mark: Option<(u64, Duration)>) {
        let stands = mark.is_some() && mark == self.mark;
        self.looks = if stands { self.looks + 1 } else { 0 };
        self.mark = mark;
    }
}

fn name(part: usize) -> String {
    match part {
        0 => "the control loop".to_owned(),
        worker => format!("thread {} of those that carry requests", worker - 1),
    }
}

fn end(what: &str, limit: Duration) -> ! {
    tracing::error!("{what} has stood still for {limit:?}: aborting, to be started anew");
    thread::sleep(LAST_WORDS);
    std::process::abort()
}

/// The variable of the environment that says which runtime [`stall_on_demand`] is for.
pub(crate) const STALL: &str = "WEIR_STALL";

/// For tests, and in test builds only: once a file named `stall` is in the state directory, this
/// runtime's threads do nothing any more.
#[cfg(debug_assertions)]
pub(crate) fn stall_on_demand(state_dir: &std::path::Path, runtimes: [(&str, &Handle); 2]) {
    for (name, runtime) in runtimes {
        if std::env::var(STALL).is_ok_and(|wanted| wanted == name) {
            let (file, runtime) = (state_dir.join("stall"), runtime.clone());
            thread::spawn(move || {
                while !file.exists() {
                    thread::sleep(Duration::from_millis(10));
                }
                for _ in 0..runtime.metrics().num_workers() {
                    runtime.spawn(async { thread::sleep(Duration::MAX) });
                }
            });
        }
    }
}
