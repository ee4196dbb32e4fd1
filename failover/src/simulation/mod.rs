//! The law in virtual time: months of probes through bad networks, in seconds.
//!
//! It drives what decides in production: [`Sight`](crate::Sight), [`Quorum`](crate::Quorum) and
//! [`step`](crate::step). What cannot change a verdict is skipped and not simulated: the probes that
//! are answered, and those that are lost but confirmed at once.

mod faults;
mod path;
mod report;
mod sky;
#[cfg(test)]
mod tests;
mod world;

use std::{thread, time::Duration};

pub use self::{
    faults::Fault,
    report::{Detections, Report},
};

/// What the networks between vantages and targets do, and what the targets do.
#[derive(Clone, Debug)]
pub struct Weather {
    pub name: &'static str,
    /// How many vantages look.
    pub vantages: usize,
    /// The part of all probes that is lost, each by itself.
    pub loss: f64,
    /// How often a path, or all paths of a vantage, loses everything for up to two
    /// seconds (as Gilbert and Elliott have it, with nothing left in the bad state).
    pub bursts: Option<Duration>,
    /// How often most vantages are cut off for ten minutes: from all that they ask, or from those
    /// whom they tell.
    pub partitions: Option<Duration>,
    /// Whether the loss grows from nothing to [`Self::loss`] in the course of each day.
    pub drift: bool,
    /// What the targets do, how often.
    pub faults: &'static [Fault],
    pub faults_every: Duration,
    /// How often the process is killed.
    pub restarts: Option<Duration>,
}

impl Weather {
    /// Three vantages and nothing wrong.
    pub const FINE: Self = Self {
        name: "nothing",
        vantages: 3,
        loss: 0.0,
        bursts: None,
        partitions: None,
        drift: false,
        faults: &[],
        faults_every: Duration::from_secs(4 * 60 * 60),
        restarts: None,
    };

    /// What the law is tried in.
    pub fn all() -> Vec<Self> {
        let loss = |name, loss| Self { name, loss, ..Self::FINE };
        let bursts = Some(Duration::from_secs(1000));
        let restarts = Some(Duration::from_secs(10 * 60));
        let partitions = Some(Duration::from_secs(24 * 60 * 60));
        vec![
            Self::FINE,
            loss("1 % loss", 0.01),
            loss("5 % loss", 0.05),
            loss("10 % loss", 0.1),
            Self { bursts, ..loss("bursts to 2 s", 0.0) },
            Self { bursts, ..loss("bursts, 5 % loss", 0.05) },
            Self { partitions, ..loss("partition, 1 % loss", 0.01) },
            Self { drift: true, ..loss("drift to 20 %", 0.2) },
            Self { vantages: 1, ..loss("1 vantage, 1 %", 0.01) },
            Self { vantages: 1, ..loss("1 vantage, 5 %", 0.05) },
            Self { faults: Fault::ALL, ..loss("faults", 0.0) },
            Self { faults: Fault::ALL, ..loss("faults, 5 % loss", 0.05) },
            Self { vantages: 1, faults: Fault::ALL, ..loss("faults, 1 vantage", 0.001) },
            Self { restarts, faults: Fault::ALL, ..loss("faults, restarts", 0.0) },
        ]
    }

    /// Lives through so many days once for each of so many seeds, on all processors.
    pub fn simulate(&self, seeds: u64, days: u64) -> Report {
        let workers = thread::available_parallelism().map_or(1, usize::from) as u64;
        thread::scope(|scope| {
            let share = |worker| {
                let mut report = Report::new(self.name);
                for seed in (worker..seeds).step_by(workers as usize) {
                    report.add(world::live(self, seed, days));
                }
                report
            };
            let workers: Vec<_> =
                (0..workers).map(|worker| scope.spawn(move || share(worker))).collect();
            workers.into_iter().fold(Report::new(self.name), |mut sum, worker| {
                // A panic there is one here.
                sum.merge(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
                sum
            })
        })
    }
}
