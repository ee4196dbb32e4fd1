//! What control has to do with the engines: what it asks of them, and what it hears.

use super::*;

impl World {
    /// An action reaches the engine, or not; its end is told late, or as something else than it was.
    pub(super) fn act(&mut self, action: Action) {
        if self.engines.is_down(&action.instance().host) || (self.trouble && self.likely(3)) {
            let reason = "connection refused".to_owned();
            let error = ProviderError::Unreachable { endpoint: "simulated".to_owned(), reason };
            return self.soon(Happening::Ends(action, Err(error)), 50);
        }
        self.check_action(&action);
        let start_up = self.start_up();
        let done = self.engines.perform(&action, start_up, self.now);
        self.tell(|| format!("done: {action}: {:?}", done.as_ref().map(|_| ())));
        let result = if self.trouble && self.likely(3) {
            Err(ProviderError::TimedOut { call: "any".into(), limit: Duration::from_secs(30) })
        } else {
            done.map(|_| ())
        };
        let took = if self.trouble && self.likely(5) { 40_000 } else { 300 };
        let (id, is_heard) = (action.instance().clone(), self.likely(80));
        self.soon(Happening::Ends(action, result), took);
        if is_heard {
            self.look(&id);
        }
    }

    pub(super) fn end(&mut self, action: Action, result: Result<(), ProviderError>) {
        let id = action.instance();
        self.in_flight.remove(id);
        let result = result.map(|()| self.engines.look(id));
        let event = Event::Done { action, result: result.map_err(Into::into) };
        self.reconciler.take(event, &self.activity, self.now);
    }

    /// The containers of a host as they are now, told a moment later.
    pub(super) fn list(&mut self, host: HostName) {
        self.in_a_while(Happening::Listing(host.clone()), 30_000);
        if self.engines.is_down(&host) {
            return self.does_not_answer(host);
        }
        let (listing, began) = (self.engines.listing(&host), self.now);
        let listed = Event::EngineListed { host: host.clone(), info: info(), listing, began };
        self.soon(Happening::Hears(listed), 50);
        self.soon(Happening::Hears(Event::EngineAnswered(host)), 5_000);
    }

    pub(super) fn does_not_answer(&mut self, host: HostName) {
        let reason = "connection refused".to_owned();
        let error = ProviderError::Unreachable { endpoint: "simulated".to_owned(), reason };
        self.soon(Happening::Hears(Event::EngineDown { host, error }), 500);
    }

    /// Control looks at one container because the engine told of it: late, twice, or not at all.
    pub(super) fn look(&mut self, id: &InstanceId) {
        let times = if self.trouble { self.chance.random_range(0..3) } else { 1 };
        for _ in 0..times {
            let (instance, container) = (id.clone(), self.engines.look(id));
            let seen = Event::ContainerSeen { instance, container, began: self.now };
            let late = if self.likely(10) { 5_000 } else { 50 };
            self.soon(Happening::Hears(seen), late);
        }
    }

    pub(super) fn probe(&mut self) {
        self.soon(Happening::Probing, 2_000);
        for (endpoint, target) in self.probes.clone() {
            let Some(id) = endpoint.instance() else { continue };
            let lies = self.trouble && self.chance.random_ratio(1, 500);
            let passes = self.engines.answers(id, self.now) != lies;
            let verdict = (target.epoch, passes);
            let last = self.verdicts.insert(endpoint.clone(), verdict);
            let is_news = match last {
                Some((epoch, told)) if epoch == target.epoch => told != passes,
                _ => passes != target.ready,
            };
            if is_news {
                let outcome = if passes { Ok(()) } else { Err("refused".to_owned()) };
                let probed = Event::Probed { endpoint, epoch: target.epoch, outcome };
                self.soon(Happening::Hears(probed), 20);
            }
        }
    }
}
