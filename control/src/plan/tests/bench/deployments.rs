//! What is asked about deployments, and what becomes of them.

use std::{net::IpAddr, time::Duration};

use weir_config::{AppName, Backends, Deployment, DeploymentState, RouteState};
use weir_deploy::{Container, ContainerState};

use super::Bench;
use crate::transition::Transition;

impl Bench {
    /// An operator asks for it.
    pub(in crate::plan::tests) fn ask(&mut self, app: &str, transition: &Transition) {
        assert!(self.try_ask(app, transition), "{transition:?}");
    }

    pub(in crate::plan::tests) fn try_ask(&mut self, app: &str, transition: &Transition) -> bool {
        let app = self.app(app);
        self.record(&app, transition)
    }

    pub(in crate::plan::tests) fn deployment(&self, app: &str, number: u64) -> &Deployment {
        let app = &self.world().desired.apps[&self.app(app)];
        app.deployment(number).unwrap_or_else(|| panic!("there is no deployment {number}"))
    }

    pub(in crate::plan::tests) fn states(&self, app: &str) -> Vec<DeploymentState> {
        let app = &self.world().desired.apps[&self.app(app)];
        app.deployments.iter().map(|deployment| deployment.state).collect()
    }

    /// The states that a deployment went through.
    pub(in crate::plan::tests) fn moves(&self, app: &str, number: u64) -> Vec<String> {
        let of = |(moved, transition): &(AppName, Transition)| match transition {
            Transition::Advance { stage, to, .. } if stage.deployment == number => {
                (**moved == *app).then(|| format!("{to:?}"))
            }
            Transition::GoLive { stage, .. } if stage.deployment == number => {
                (**moved == *app).then(|| "live".to_owned())
            }
            _ => None,
        };
        self.transitions.iter().filter_map(of).collect()
    }

    /// An instance has answered so many requests, of which so many failed.
    pub(in crate::plan::tests) fn answers(&self, instance: &str, count: u64, failures: u64) {
        let activity = self.activity.endpoint(&self.instance(instance).into());
        (0..count).for_each(|i| activity.answered(i < failures, Duration::from_millis(5)));
    }

    /// The process of some instance that runs ends.
    pub(in crate::plan::tests) fn crash_any(&mut self, nth: usize) {
        let runs = |container: &&Container| container.state == ContainerState::Running;
        let running: Vec<_> = self.engine.values().filter(runs).collect();
        if let Some(container) = running.get(nth % running.len().max(1)) {
            let id = container.instance.to_string();
            self.crash(&id, 1);
        }
    }

    /// The engine starts again what has crashed.
    pub(in crate::plan::tests) fn restart_all(&mut self) {
        let crashed = |container: &&Container| container.state == ContainerState::Restarting;
        let ids: Vec<_> =
            self.engine.values().filter(crashed).map(|c| c.instance.clone()).collect();
        for (i, id) in ids.into_iter().enumerate() {
            let address = IpAddr::from([10, 0, 1, 1 + i as u8]);
            self.change_container(&id, ContainerState::Running, Some(address));
        }
        self.pass(Duration::from_millis(1));
        self.list();
    }

    pub(in crate::plan::tests) fn assert_only_ready_ones_serve(&self, at: &str) {
        for route in self.observed().served.apps() {
            let RouteState::Serving(Backends::Own(pool)) = &route.state else { continue };
            for endpoint in pool.endpoints() {
                let id = endpoint.id.instance().unwrap();
                let state = self.engine.get(id).map(|container| container.state);
                // A crash is known a moment later, when the next plan has seen it.
                let is_up =
                    matches!(state, Some(ContainerState::Running | ContainerState::Restarting));
                assert!(is_up, "{at}: {id} serves and is {state:?}");
            }
        }
    }

    pub(in crate::plan::tests) fn settle_sorted(&mut self) -> Vec<String> {
        let mut actions = self.settle();
        actions.sort();
        actions
    }
}
