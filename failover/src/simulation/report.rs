//! What came of it.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::Fault;

/// What came of living through some time, some times over.
#[derive(Clone, Debug)]
pub struct Report {
    pub name: &'static str,
    pub lives: u64,
    /// Departures from a target that was well, or from both when what is behind them failed, and
    /// restarts that moved anybody: in all lives, and in the worst one.
    pub wrong: u64,
    pub worst: u64,
    /// How often shares changed.
    pub transitions: u64,
    pub faults: u64,
    /// The most transitions while one fault of each kind lasted.
    pub most_transitions: BTreeMap<Fault, u64>,
    pub detections: BTreeMap<Fault, Detections>,
    /// Steps of the controller.
    pub steps: u64,
}

/// From the beginning of a fault to the decision to leave, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Detections(Vec<u32>);

impl Report {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            lives: 0,
            wrong: 0,
            worst: 0,
            transitions: 0,
            faults: 0,
            most_transitions: BTreeMap::new(),
            detections: BTreeMap::new(),
            steps: 0,
        }
    }

    /// Takes in one life.
    pub(super) fn add(&mut self, life: Self) {
        self.merge(Self { lives: 1, worst: life.wrong, ..life });
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.lives += other.lives;
        self.wrong += other.wrong;
        self.worst = self.worst.max(other.worst);
        self.transitions += other.transitions;
        self.faults += other.faults;
        self.steps += other.steps;
        for (fault, most) in other.most_transitions {
            let own = self.most_transitions.entry(fault).or_default();
            *own = most.max(*own);
        }
        for (fault, Detections(times)) in other.detections {
            self.detections.entry(fault).or_default().0.extend(times);
        }
    }
}

impl Detections {
    pub(super) fn take(&mut self, time: Duration) {
        self.0.push(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that this part of them is within; zero if there are none.
    pub fn quantile(&self, part: f64) -> Duration {
        let mut times = self.0.clone();
        if times.is_empty() {
            return Duration::ZERO;
        }
        let place = ((times.len() - 1) as f64 * part).ceil() as usize;
        let (_, time, _) = times.select_nth_unstable(place);
        Duration::from_millis(u64::from(*time))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, lives, wrong, worst, transitions, faults, .. } = self;
        write!(f, "{name:20} {lives:5} lives: {wrong:3} wrong (worst life {worst}), ")?;
        write!(f, "{faults} faults, {transitions} transitions, {} steps", self.steps)?;
        for (fault, times) in &self.detections {
            let [half, most, all] = [0.5, 0.99, 1.0].map(|part| times.quantile(part));
            let transitions = self.most_transitions.get(fault).copied().unwrap_or_default();
            write!(f, "\n    {fault:?}: {} left after {half:.1?}, p99 {most:.1?}, ", times.len())?;
            write!(f, "worst {all:.1?}; at most {transitions} transitions meanwhile")?;
        }
        Ok(())
    }
}
