//! The levels that the data plane writes, as they are before a plan.

use std::collections::BTreeSet;

use weir_config::{Activity, Answers, AppName, DeploymentState, InstanceId};

use super::Observed;
use crate::{subject::Subject, transition::Stage};

impl Observed {
    /// Reads the levels that the data plane writes about one subject.
    pub(crate) fn sample(&mut self, subject: &Subject, activity: &Activity) {
        let Subject::App(app) = subject else { return };
        self.sample_app(app, activity);
        self.sample_answers(app, activity);
        let count = |id: &InstanceId| activity.in_flight_on(&id.clone().into());
        let changed = self.instances_of(app).filter(|(id, seen)| seen.in_flight != count(id));
        for id in changed.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.in_flight = count(&id);
            }
        }
    }

    /// Reads every level that the data plane writes.
    pub(crate) fn sample_all(&mut self, activity: &Activity) {
        let of_apps = self.apps.keys().chain(self.instances.keys().map(|id| &id.app));
        let apps: BTreeSet<_> = of_apps.cloned().collect();
        apps.into_iter().for_each(|app| self.sample(&Subject::App(app), activity));
    }

    fn sample_app(&mut self, app: &AppName, activity: &Activity) {
        let Some(state) = self.apps.get(app) else { return };
        let live = activity.app(app);
        let level = (live.in_flight(), live.last_request());
        let serves = self.served.app(app).is_some_and(|route| route.state.is_serving());
        // Told to sleep, but a request came first.
        let disturbed = level.0 > 0 && state.asleep.is_some() && serves;
        if (state.in_flight, state.last_request) == level && !disturbed {
            return;
        }
        if let Some(state) = self.apps.get_mut(app) {
            (state.in_flight, state.last_request) = level;
            state.asleep = state.asleep.filter(|_| !disturbed);
        }
    }

    /// Only of a target whose answers may be asked for.
    fn sample_answers(&mut self, app: &AppName, activity: &Activity) {
        let watched = |stage: &Stage| stage.state >= DeploymentState::Shifting;
        let stage = self.apps.get(app).and_then(|state| state.stage).filter(watched);
        let Some(Stage { deployment, .. }) = stage else { return };
        let mut all = Answers::default();
        for (id, _) in self.instances_of(app).filter(|(id, _)| id.deployment == deployment) {
            all += activity.answers_of(&id.clone().into());
        }
        if let Some(state) = self.apps.get_mut(app) {
            state.answers = all - *state.answers_before.get_or_insert(all);
        }
    }
}
