//! What operators do, and what goes wrong.

use super::*;
use crate::transition::{ASKED_FOR, ending};

impl World {
    pub(super) fn operate(&mut self) {
        if !self.trouble {
            return;
        }
        self.in_a_while(Happening::OperatorActs, 60_000);
        let name = self.any(&APPS);
        let app: AppName = name.parse().expect("a name");
        match self.chance.random_range(0..100) {
            0..8 if self.store.apps.remove(&app).is_some() => {
                self.store.revision += 1;
                self.tell(|| format!("deletes {app}"));
            }
            8..24 => {
                let asleep = Event::SleepWanted(app, weir_config::SleepLevel::Paused);
                return self.soon(Happening::Hears(asleep), 5);
            }
            24..38 => {
                let of_app =
                    self.store.apps.get(&app).map_or(1, |app| app.deployments.len() as u64);
                let named = self.chance.random_range(1..=of_app.max(1));
                let to = self.likely(50).then_some(named);
                self.change(&app, &Transition::RollBack { to, ending: ending(ASKED_FOR) });
                return;
            }
            38..48 => {
                self.change(&app, &Transition::Cancel { ending: ending(ASKED_FOR) });
                return;
            }
            48..62 => {
                let host = self.any(self.hosts);
                let how = self.any(&["", "", "cordoned: true", "cordoned: true, draining: true"]);
                return self.put_host(host, how);
            }
            62..68 => {
                let wanted = Event::ConvergeWanted(vec![app]);
                return self.soon(Happening::Hears(wanted), 5);
            }
            _ => self.put(name),
        }
        self.feed(&app);
    }

    pub(super) fn crash(&mut self) {
        if !self.trouble {
            return;
        }
        self.in_a_while(Happening::ProcessCrashes, 60_000);
        let ids: Vec<_> = self.engines.containers.keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.chance.random_range(0..ids.len())].clone();
        if self.engines.crash(&id) {
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
        let host: HostName = self.any(self.hosts).parse().expect("a name");
        if self.engines.is_down(&host) {
            return;
        }
        let is_cut_off = self.likely(50);
        self.tell(|| format!("the engine of {host} goes away; cut off: {is_cut_off}"));
        if is_cut_off {
            let of_host = self.engines.containers.keys().filter(|id| id.host == host);
            of_host.for_each(|id| self.traffic.break_those_on(id));
        }
        self.engines.down.insert(host.clone(), is_cut_off);
        self.does_not_answer(host.clone());
        self.soon(Happening::EngineComesBack(host), AWAY.as_millis() as u64);
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
            if self.likely(50) && !self.engines.is_down(&action.instance().host) {
                let start_up = self.start_up();
                let _ = self.engines.perform(&action, start_up, self.now);
            }
        }
        self.activity = Arc::default();
        let last_good = LastGood::of(&self.kept.1, "boot").restore(&self.activity, "boot");
        (self.publisher, self.snapshots) = channel(last_good);
        self.begin_control();
    }

    /// An operator writes an app, new or not.
    pub(super) fn put(&mut self, name: &str) {
        let image = if self.trouble && self.life > 0 { self.any(&IMAGES) } else { "one" };
        let instances = self.chance.random_range(1..4);
        let sleep = self.any(&["", ", sleep: {pause_after: 20s, stop_after: 2m, min_awake: 5s}"]);
        let ports = if instances == 1 && self.likely(20) { ", ports: [\"81:81\"]" } else { "" };
        let rollout = self.any(&ROLLOUTS);
        let spec = format!(
            "{{kind: App, name: {name}, spec: {{image: {image}, instances: {instances}{sleep}{ports}{rollout}}}}}"
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
        let desired = DesiredApp { app, unverified: Vec::new(), generation, deployments };
        self.store.apps.insert(name, Arc::new(desired));
        self.store.revision += 1;
    }

    /// An operator writes a host, new or not.
    pub(super) fn put_host(&mut self, name: &str, spec: &str) {
        let engine = if name == "local" { "" } else { "engine: \"unix:///e\", " };
        let text = format!("{{kind: Host, name: {name}, spec: {{{engine}{spec}}}}}");
        let value = weir_config::parse_documents(&text).expect("YAML")[0].value.clone();
        let (_, host) = Host::read(value).expect("valid");
        self.tell(|| format!("puts {text}"));
        let (name, host) = (host.name.clone(), Arc::new(host));
        self.store.hosts.insert(name.clone(), host.clone());
        self.store.revision += 1;
        let (revision, hosts) = (self.store.revision, vec![(name, Some(host))]);
        let change = DesiredChange { revision, hosts, ..DesiredChange::default() };
        self.reconciler.take(Event::Desired(change), &self.activity, self.now);
    }

    /// Control hears of a commit.
    pub(super) fn feed(&mut self, app: &AppName) {
        let change = DesiredChange {
            revision: self.store.revision,
            apps: vec![(app.clone(), self.store.meant(app, self.now))],
            ..DesiredChange::default()
        };
        self.reconciler.take(Event::Desired(change), &self.activity, self.now);
    }
}
