//! Which endpoint a request goes to.

use std::cell::LazyCell;

use super::{Endpoint, Pool, table::Table};
use crate::{
    Moment,
    hash::{Numbers, below},
};

/// What a request brings to the choice of its endpoint. The same choice from the same pool under
/// the same load is the same endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The [hash](crate::HashKey::hash) of its key; `None` if the pool hashes nothing, or the
    /// request lacks what is hashed.
    pub key: Option<u64>,
    /// Any number, another for each request.
    pub random: u64,
    /// For slow start.
    pub now: Moment,
}

/// How many of those that take a key are asked before the least loaded of all endpoints is: no more
/// than a few are overloaded or unusable, unless nearly all are.
const TAKERS: usize = 64;

/// A load that no endpoint is overloaded by, once it has started. Without it, few requests at a time would seldom reach
/// their owner: a browser's six at once would spread over all endpoints of an app that is idle.
const LIGHT: f64 = 8.0;

/// How many endpoints' loads make the mean. In a larger pool they stand for the others.
const SAMPLE: usize = 32;

/// How often a number is drawn again because it fell on an endpoint that is starting slowly.
const DRAWS: usize = 8;

impl Pool {
    /// The endpoint for a request: the owner of its key, or the next on the table if that one
    /// carries too much (consistent hashing with bounded loads: Mirrokni, Thorup, Zadimoghaddam);
    /// without a key, the less loaded of two taken at random. `None` only if none is usable.
    ///
    /// It takes no lock and allocates nothing. The load is looked at, not reserved: requests that
    /// choose at the same instant may pass the bound together.
    pub fn pick(&self, choice: Choice, usable: impl Fn(&Endpoint) -> bool) -> Option<&Endpoint> {
        match (choice.key, &self.table) {
            (Some(key), Some(table)) => self.by_key(table, key, choice, &usable),
            _ => self.of_two(choice, &usable),
        }
    }

    fn by_key(
        &self,
        table: &Table,
        key: u64,
        choice: Choice,
        usable: &impl Fn(&Endpoint) -> bool,
    ) -> Option<&Endpoint> {
        let mean = LazyCell::new(|| self.mean_load(choice, usable));
        let takes = |endpoint: &Endpoint| {
            usable(endpoint) && {
                let in_flight = endpoint.activity.load();
                let most = || self.balance.max_load * *mean * self.weight(endpoint, choice.now);
                let light = LIGHT * self.started(endpoint, choice.now);
                // The mean is not needed while the load is light.
                (in_flight as f64) < light || (in_flight as f64) < most().ceil()
            }
        };
        let mut takers = table.takers(key).take(TAKERS).map(|index| &self.endpoints[index]);
        takers.find(|endpoint| takes(endpoint)).or_else(|| self.least_loaded(choice, usable))
    }

    /// Requests in flight on a unit of weight of the usable endpoints, this request included.
    fn mean_load(&self, choice: Choice, usable: impl Fn(&Endpoint) -> bool) -> f64 {
        let count = self.endpoints.len();
        let first = below(choice.random, count);
        let step = (count / SAMPLE).max(1);
        let (mut in_flight, mut weight) = (1, 0.0);
        for i in 0..count.min(SAMPLE) {
            let endpoint = &self.endpoints[(first + i * step) % count];
            if usable(endpoint) {
                in_flight += endpoint.activity.load();
                weight += self.weight(endpoint, choice.now);
            }
        }
        in_flight as f64 / weight
    }

    fn of_two(&self, choice: Choice, usable: &impl Fn(&Endpoint) -> bool) -> Option<&Endpoint> {
        let (one, other) = self.two(choice)?;
        match (usable(one), other.filter(|other| usable(other))) {
            (true, Some(other)) if self.load(other, choice) < self.load(one, choice) => Some(other),
            (true, _) => Some(one),
            (false, Some(other)) => Some(other),
            (false, None) => self.least_loaded(choice, usable),
        }
    }

    /// Two endpoints taken at random by weight; only one, if the second is not to be considered.
    ///
    /// One that starts slowly is passed over as often as its weight falls short of its full one, and
    /// as the second, as often as it falls short of the first. So it is taken less often, and those
    /// that start together are taken as any others are.
    fn two(&self, choice: Choice) -> Option<(&Endpoint, Option<&Endpoint>)> {
        let mut numbers = Numbers(choice.random);
        let started = |at: usize| Some(self.started(self.endpoints.get(at)?, choice.now));
        let mut one = self.draw(&mut numbers);
        for _ in 1..DRAWS {
            if numbers.fraction() < started(one)? {
                break;
            }
            one = self.draw(&mut numbers);
        }
        let other = self.draw_beside(one, &mut numbers);
        let considered = numbers.fraction() * started(one)? < started(other)?;
        Some((&self.endpoints[one], considered.then(|| &self.endpoints[other])))
    }

    /// The place of an endpoint, taken by its full weight.
    fn draw(&self, numbers: &mut Numbers) -> usize {
        let Some(all) = self.weights.last() else { return numbers.below(self.endpoints.len()) };
        let drawn = numbers.below(*all as usize) as u64;
        self.weights.partition_point(|weight| *weight <= drawn)
    }

    /// One to compare with. Where weights differ it may be the same, or else a light endpoint beside
    /// a heavy one would be half of each pair.
    fn draw_beside(&self, one: usize, numbers: &mut Numbers) -> usize {
        match self.endpoints.len() {
            count if count > 1 && self.weights.is_empty() => {
                (one + 1 + numbers.below(count - 1)) % count
            }
            _ => self.draw(numbers),
        }
    }

    /// The least loaded of all that will do; among equals, one at random.
    fn least_loaded(
        &self,
        choice: Choice,
        will_do: impl Fn(&Endpoint) -> bool,
    ) -> Option<&Endpoint> {
        let (before, from) = self.endpoints.split_at(below(choice.random, self.endpoints.len()));
        let load = |endpoint: &&Endpoint| self.load(endpoint, choice);
        let will_do = from.iter().chain(before).filter(|endpoint| will_do(endpoint));
        will_do.min_by(|one, other| load(one).total_cmp(&load(other)))
    }

    /// Requests in flight for a unit of weight.
    fn load(&self, endpoint: &Endpoint, choice: Choice) -> f64 {
        endpoint.activity.load() as f64 / self.weight(endpoint, choice.now)
    }

    /// Its weight now: while it starts, a part of its full one.
    fn weight(&self, endpoint: &Endpoint, now: Moment) -> f64 {
        f64::from(endpoint.weight.max(1)) * self.started(endpoint, now)
    }

    /// How far slow start has come for an endpoint: from 0.1 to 1.
    fn started(&self, endpoint: &Endpoint, now: Moment) -> f64 {
        let (span, ready_since) = (self.balance.slow_start, endpoint.ready_since);
        if span.is_zero() || ready_since == Moment(0) {
            return 1.0;
        }
        let passed = now.since(ready_since).as_secs_f64() / span.as_secs_f64();
        (0.1 + 0.9 * passed).min(1.0)
    }
}
