//! Clients and the data plane between them and the instances.

use std::collections::BTreeMap;

use weir_config::{
    Admission, AppName, Decision, Endpoint, EndpointLease, InstanceId, Lease, Moment, RouteState,
    Snapshots,
};

/// Requests under way, by a number of their own.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    requests: BTreeMap<u64, Request>,
    last: u64,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) app: AppName,
    /// Dropped with the request, which ends it for the idle clock too.
    _lease: Lease,
    pub(super) on: Option<On>,
}

/// The instance that a request is on.
#[derive(Debug)]
pub(super) struct On {
    pub(super) instance: InstanceId,
    _lease: EndpointLease,
}

/// What a request met.
pub(super) enum Met {
    Instance(u64),
    Hold(u64),
    Refusal,
}

impl Traffic {
    /// A request for an app's host name, which goes to any endpoint that serves.
    pub(super) fn arrive(
        &mut self,
        snapshots: &Snapshots,
        host: &str,
        chance: usize,
        now: Moment,
    ) -> Met {
        let pick =
            |endpoints: &[Endpoint]| (!endpoints.is_empty()).then(|| chance % endpoints.len());
        let Admission { decision, .. } = snapshots.admit(host, "/", |snapshot, route| {
            let RouteState::Serving(backends) = &route.state else { return None };
            let endpoints = snapshot.pool(backends, host)?.endpoints();
            pick(endpoints).map(|index| &endpoints[index])
        });
        let (route, lease, on) = match decision {
            Decision::UnknownHost | Decision::Refuse { .. } => return Met::Refusal,
            Decision::Hold { route, lease } => (route, lease, None),
            Decision::Forward { route, lease, endpoint, endpoint_lease } => {
                let Some(instance) = endpoint.id.instance().cloned() else { return Met::Refusal };
                (route, lease, Some(On { instance, _lease: endpoint_lease }))
            }
        };
        route.activity.touch(now);
        self.last += 1;
        let is_held = on.is_none();
        let request = Request { app: route.app.clone(), _lease: lease, on };
        self.requests.insert(self.last, request);
        if is_held { Met::Hold(self.last) } else { Met::Instance(self.last) }
    }

    pub(super) fn end(&mut self, number: u64) -> Option<Request> {
        self.requests.remove(&number)
    }

    pub(super) fn are_on(&self, instance: &InstanceId) -> usize {
        let on = self.requests.values().filter_map(|request| request.on.as_ref());
        on.filter(|on| on.instance == *instance).count()
    }

    /// The connections to a process that has died break.
    pub(super) fn break_those_on(&mut self, instance: &InstanceId) {
        let is_on =
            |request: &Request| request.on.as_ref().is_some_and(|on| on.instance == *instance);
        self.requests.retain(|_, request| !is_on(request));
    }

    /// All connections break.
    pub(super) fn break_all(&mut self) {
        self.requests.clear();
    }
}
