//! What operators do, and what goes wrong.

use super::*;

impl World {
    pub(super) fn operate(&mut self) {
        if !self.trouble {
            return;
        }
        self.in_a_while(Happening::OperatorActs, 60_000);
        let name = self.any(&APPS);
        let app: AppName = name.parse().expect("a name");
        if self.likely(10) && self.store.apps.remove(&app).is_some() {
            self.store.revision += 1;
            self.tell(|| format!("deletes {app}"));
        } else if self.likely(20) {
            let asleep = Event::SleepWanted(app, weir_config::SleepLevel::Paused);
            return self.soon(Happening::Hears(asleep), 5);
        } else {
            self.put(name);
        }
        self.feed(&app);
    }

    pub(super) fn crash(&mut self) {
        if !self.trouble {
            return;
        }
        self.in_a_while(Happening::ProcessCrashes, 60_000);
        let ids: Vec<_> = self.engine.containers.keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.chance.random_range(0..ids.len())].clone();
        if self.engine.crash(&id) {
            self.traffic.break_those_on(&id);
            self.tell(|| format!("crashes: {id}"));
            let death = Death { at: i128::from(self.now.0), exit_code: 1, log_tail: Vec::new() };
            let died = Event::Died { instance: id.clone(), death };
            self.look(&id);
            self.soon(Happening::Hears(died), 3_000);
            self.soon(Happening::Restart(id), 2_000);
        }
    }

    pub(super) fn lose_engine(&mut self) {
        if !self.trouble {
            return;
        }
        self.in_a_while(Happening::EngineGoesAway, 300_000);
        self.tell(|| "the engine goes away".to_owned());
        self.engine.is_down = true;
        let reason = "connection refused".to_owned();
        let down = ProviderError::Unreachable { endpoint: "simulated".to_owned(), reason };
        self.soon(
            Happening::Hears(Event::EngineDown { host: HostName::local(), error: down }),
            500,
        );
        self.soon(Happening::EngineComesBack, 60_000);
    }

    /// `kill -9`: all connections break, and what is left is the store, the engine, and the last
    /// snapshot that was kept.
    pub(super) fn kill_control(&mut self) {
        if !self.trouble {
            return;
        }
        self.in_a_while(Happening::ControlIsKilled, 300_000);
        self.tell(|| "control is killed".to_owned());
        self.traffic.break_all();
        for action in std::mem::take(&mut self.in_flight).into_values() {
            // It reached the engine or not.
            if self.likely(50) && !self.engine.is_down {
                let start_up = self.start_up();
                let _ = self.engine.perform(&action, start_up, self.now);
            }
        }
        self.activity = Arc::default();
        let last_good = LastGood::of(&self.kept.1, "boot").restore(&self.activity, "boot");
        (self.publisher, self.snapshots) = channel(last_good);
        self.begin_control();
    }

    /// An operator writes an app, new or not.
    pub(super) fn put(&mut self, name: &str) {
        let image =
            if self.trouble && self.store.revision >= 3 { self.any(&IMAGES) } else { "one" };
        let instances = self.chance.random_range(1..4);
        let sleep = self.any(&["", ", sleep: {pause_after: 20s, stop_after: 2m, min_awake: 5s}"]);
        let ports = if instances == 1 && self.likely(20) { ", ports: [\"81:81\"]" } else { "" };
        let spec = format!(
            "{{kind: App, name: {name}, spec: {{image: {image}, instances: {instances}{sleep}{ports}{ROLLOUT}}}}}"
        );
        let value = weir_config::parse_documents(&spec).expect("YAML")[0].value.clone();
        let (_, app) = App::read(value, &"test.example".parse().expect("a name")).expect("valid");
        let Source::Image(template) = &app.source else { return };
        let former = self.store.apps.get(&app.name);
        let mut deployments = former.map_or_else(Vec::new, |former| former.deployments.clone());
        if deployments.first().is_none_or(|newest| newest.template != *template) {
            let number = self.store.numbers.entry(app.name.clone()).or_default();
            *number += 1;
            let (number, template) = (*number, template.clone());
            let begin = Transition::Begin { number, template, cause: Cause::Apply };
            begin.apply(&mut deployments, self.now).expect("it is always possible");
        }
        let generation = self.store.apps.get(&app.name).map_or(1, |former| former.generation + 1);
        self.tell(|| format!("puts {spec} as deployment {}", deployments[0].number));
        let name = app.name.clone();
        let desired = DesiredApp { app, generation, deployments };
        self.store.apps.insert(name, Arc::new(desired));
        self.store.revision += 1;
    }

    /// Control hears of a commit.
    pub(super) fn feed(&mut self, app: &AppName) {
        let change = DesiredChange {
            revision: self.store.revision,
            apps: vec![(app.clone(), self.store.apps.get(app).cloned())],
            ..DesiredChange::default()
        };
        self.reconciler.take(Event::Desired(change), &self.activity, self.now);
    }
}
