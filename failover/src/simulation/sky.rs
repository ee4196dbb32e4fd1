//! What networks and targets do.

use std::time::Duration;

use weir_config::{Moment, Numbers};

use super::{
    Weather,
    faults::{Faults, Mood},
    path::{Fate, NEVER, Network},
};
use crate::Samples;

pub(super) const TARGETS: usize = 2;
/// Of each vantage.
const REFERENCES: usize = 2;
pub(super) const PATHS: usize = TARGETS + REFERENCES;
/// How long bursts are, in seconds: on average, before they are cut off, and at most.
pub(super) const BURST_MEAN: f64 = 0.7;
pub(super) const BURST_MOST: f64 = 2.0;

/// What networks and targets do.
pub(super) struct Sky {
    pub(super) weather: Weather,
    pub(super) numbers: Numbers,
    pub(super) loss: f64,
    /// Until when each path loses everything; the last of each vantage is that of all its paths.
    pub(super) bursts: Vec<[Moment; PATHS + 1]>,
    pub(super) next_burst: Moment,
    pub(super) cut_off: bool,
    /// Whether those who are cut off ask in vain, or tell in vain.
    pub(super) tells_nobody: bool,
    pub(super) next_partition: Moment,
    pub(super) next_drift: Moment,
    pub(super) faults: Faults,
}

/// One path's view of it.
pub(super) struct View<'a> {
    pub(super) sky: &'a mut Sky,
    pub(super) vantage: usize,
    pub(super) path: usize,
}

impl Sky {
    pub(super) fn new(weather: &Weather, seed: u64) -> Self {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9).wrapping_add(1));
        let faults = Faults::new(weather.faults, weather.faults_every, &mut numbers);
        let partition = weather.partitions.map(|every| every.mul_f64(numbers.fraction()));
        let mut sky = Self {
            weather: weather.clone(),
            loss: if weather.drift { 0.0 } else { weather.loss },
            bursts: vec![[Moment(0); PATHS + 1]; weather.vantages],
            next_burst: NEVER,
            cut_off: false,
            tells_nobody: seed % 2 == 1,
            next_partition: partition.map_or(NEVER, |after| Moment(60_000) + after),
            next_drift: if weather.drift { Moment(1) } else { NEVER },
            faults,
            numbers,
        };
        sky.plan_burst(Moment(0));
        sky
    }

    pub(super) fn plan_burst(&mut self, now: Moment) {
        if let Some(every) = self.weather.bursts {
            let each = every.as_secs_f64() / (self.bursts.len() * (PATHS + 1)) as f64;
            let after = -each * (1.0 - self.numbers.fraction()).ln();
            self.next_burst = now + Duration::from_secs_f64(after.max(0.001));
        }
    }

    /// Every quarter of an hour it gets a little worse, until the day is over.
    pub(super) fn drift(&mut self, now: Moment) {
        const STEP: Duration = Duration::from_secs(15 * 60);
        let day = now.0 % (24 * 60 * 60 * 1000);
        self.loss = self.weather.loss * day as f64 / (24.0 * 60.0 * 60.0 * 1000.0);
        self.next_drift = now + STEP;
    }

    pub(super) fn is_silent(&self, vantage: usize) -> bool {
        self.cut_off && self.tells_nobody && vantage > 0
    }

    pub(super) fn is_cut_off(&self, vantage: usize) -> bool {
        self.cut_off && !self.tells_nobody && vantage > 0
    }

    pub(super) fn bursts_at(&self, vantage: usize, path: usize, now: Moment) -> bool {
        let bursts = &self.bursts[vantage];
        now < bursts[path] || now < bursts[PATHS]
    }

    pub(super) fn samples(&mut self, count: u32, loss: f64, mood: Mood) -> Samples {
        let rate = match mood {
            Mood::Well | Mood::Slow => loss,
            Mood::Torn => 0.5 + loss / 2.0,
            Mood::Refuses | Mood::Silent => 1.0,
        };
        let errors = binomial(count, rate, &mut self.numbers);
        let p95 = 20.0 + self.numbers.fraction() as f32 * 4.0;
        let slow = if mood == Mood::Slow { 600.0 } else { 0.0 };
        Samples { count, errors, p95: p95 + slow }
    }
}

/// How many of so many things happen that happen with this probability each: by inversion.
fn binomial(count: u32, probability: f64, numbers: &mut Numbers) -> u32 {
    if probability > 0.5 {
        return count - binomial(count, 1.0 - probability, numbers);
    }
    let odds = probability / (1.0 - probability);
    let (mut luck, mut happen) = (numbers.fraction(), 0);
    let mut chance = (1.0 - probability).powi(count as i32);
    while luck >= chance && happen < count {
        luck -= chance;
        chance *= odds * f64::from(count - happen) / f64::from(happen + 1);
        happen += 1;
    }
    happen
}

impl Network for View<'_> {
    fn fate(&mut self, now: Moment) -> Fate {
        let sky = &mut *self.sky;
        let lost = sky.is_cut_off(self.vantage) || sky.bursts_at(self.vantage, self.path, now);
        if lost || (sky.loss > 0.0 && sky.numbers.fraction() < sky.loss) {
            return Fate::Lost;
        }
        let mood = match self.path < TARGETS {
            true => sky.faults.mood(self.path, now),
            false => Mood::Well,
        };
        match mood {
            Mood::Well => Fate::Answered,
            Mood::Refuses => Fate::Refused,
            Mood::Silent => Fate::Lost,
            Mood::Torn if sky.numbers.fraction() < 0.5 => Fate::Refused,
            Mood::Torn => Fate::Answered,
            Mood::Slow => Fate::AnsweredLate,
        }
    }

    fn loss(&self) -> f64 {
        self.sky.loss
    }

    fn numbers(&mut self) -> &mut Numbers {
        &mut self.sky.numbers
    }

    fn is_calm(&self, now: Moment) -> bool {
        let sky = &*self.sky;
        let is_well = self.path >= TARGETS || sky.faults.now.is_none();
        is_well && !sky.is_cut_off(self.vantage) && !sky.bursts_at(self.vantage, self.path, now)
    }
}
