//! Requests: those that are answered, and those that wait and have less and less patience.

use super::*;

impl World {
    pub(super) fn request(&mut self) {
        if self.silent {
            return;
        }
        let (pause, long) = match (self.forgets_to_publish, self.likely(5)) {
            // So many, and so short ones, that one of them comes at the wrong moment soon.
            (true, _) => (25, 20),
            (false, true) => (600_000, 500),
            (false, false) => (3_000, 500),
        };
        self.in_a_while(Happening::RequestArrives, pause);
        let app = self.any(&APPS);
        let chance = self.chance.random_range(0..1000);
        let host = format!("{app}.test.example");
        match self.traffic.arrive(&self.snapshots, &host, chance, self.now) {
            Met::Instance(number) => {
                let long = if !self.forgets_to_publish && self.likely(5) { 120_000 } else { long };
                self.in_a_while(Happening::RequestEnds(number), long);
            }
            Met::Hold(number) => {
                self.hint(app);
                self.soon(Happening::Retries(number), 1_000);
            }
            Met::Refusal => {}
        }
    }

    /// One that is held tries again, and asks again for the wake.
    pub(super) fn retry(&mut self, number: u64) {
        let Some(request) = self.traffic.end(number) else { return };
        let app = request.app.clone();
        drop(request);
        let chance = self.chance.random_range(0..1000);
        let host = format!("{app}.test.example");
        match self.traffic.arrive(&self.snapshots, &host, chance, self.now) {
            Met::Instance(number) => self.in_a_while(Happening::RequestEnds(number), 500),
            // Some clients have no patience.
            Met::Hold(number) if self.likely(95) => {
                self.hint(&app);
                self.soon(Happening::Retries(number), 1_000);
            }
            Met::Hold(number) => drop(self.traffic.end(number)),
            Met::Refusal => {}
        }
    }

    pub(super) fn hint(&mut self, app: &str) {
        if !self.trouble || self.likely(80) {
            let wanted = Event::WakeWanted(app.parse().expect("a name"));
            self.soon(Happening::Hears(wanted), 5);
        }
    }
}
