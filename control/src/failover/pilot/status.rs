//! How a policy is, and how it would be.

use std::net::IpAddr;

use weir_config::{Buckets, FailoverTarget, Moment, Steering};
use weir_failover::{Decision, Event, Health, Incident, Standing, step};

use super::{Pilot, Watched};
use crate::failover::{
    handle::{FailoverStatus, IncidentStatus, NotObeyed, Simulated, Simulation, TargetStatus},
    words,
};

impl Pilot {
    /// How the policy is; `last` is the last incident that is over.
    pub(in crate::failover) fn status(&self, last: Option<&Incident>) -> FailoverStatus {
        let state = self.journal.state();
        let places = self.policy.targets.iter().zip(&self.targets).enumerate();
        let target = |(place, (meant, seen)): (usize, (&FailoverTarget, &Watched))| TargetStatus {
            name: meant.name.clone(),
            health: seen.health,
            standing: state.standing(place).cloned().unwrap_or(Standing::Aside),
            share: self.served.shares.of(place),
            addresses: seen.addresses.clone(),
            asked: seen.asked,
            error: seen.error.clone(),
            round_trip: seen.schedule.round_trip(),
        };
        let incident = self.journal.incident().or(last);
        let error = |target| incident.and_then(|incident| incident.first_error(target));
        let line = |decision: &Decision| words::line(decision, &self.policy, error);
        FailoverStatus {
            mode: self.policy.mode,
            phase: state.phase(),
            hold: state.hold(),
            decided: *state.steering(),
            served: self.served,
            targets: places.map(target).collect(),
            incident: incident.map(|incident| IncidentStatus::of(incident, line)),
        }
    }

    /// What the law would decide if these targets were well or not; nothing is changed.
    pub(in crate::failover) fn simulate(
        &self,
        simulation: &Simulation,
        now: Moment,
    ) -> Result<Simulated, NotObeyed> {
        let names: Vec<_> = self.policy.targets.iter().map(|target| &*target.name).collect();
        let mut events = Vec::new();
        for (name, is_well) in &simulation.targets {
            let place = names.iter().position(|other| *other == &**name);
            let target = place.ok_or_else(|| NotObeyed::NoTarget(name.clone()))?;
            let health = if *is_well { Health::Up } else { Health::Down };
            events.push(Event::Health { target, health });
        }
        let state = self.journal.state().clone();
        let (state, decisions) = step(&self.policy.law, state, &events, now);
        let Steering { shares, ttl, .. } = *state.steering();
        let buckets = Buckets::new(&names, &shares);
        let goes_to = |client: &IpAddr| {
            let target = buckets.target(*client).and_then(|place| self.policy.targets.get(place));
            (*client, target.map(|target| target.name.clone()))
        };
        let line = |decision: &Decision| words::line(decision, &self.policy, |_| None);
        Ok(Simulated {
            shares,
            ttl,
            decisions: decisions.iter().filter_map(line).map(|(_, detail)| detail).collect(),
            clients: simulation.clients.iter().map(goes_to).collect(),
        })
    }
}
