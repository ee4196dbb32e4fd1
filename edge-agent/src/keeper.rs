//! The device's engine, as control is given it: what it is told is kept before it is done, so that
//! it can be done again when nobody is there to say so.

use std::{
    io,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;
use weir_config::{InstanceId, Secrets};
use weir_deploy::{
    About, Agent, Begin, Caller, Container, ContainerEvent, ContainerSpec, Docker, Duplex,
    EngineInfo, ExecOutput, Listing, LogLine, Program, Provider, ProviderError, Stats, Stream,
};

use crate::{
    about,
    ballast::Room,
    calls::Calls,
    identity::Identity,
    program,
    slice::{Kept, Level, Slice},
};

/// The engine, and what is to run on it.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) engine: Docker,
    socket: PathBuf,
    dir: PathBuf,
    slice: Mutex<Slice>,
    /// Whether control says what is to be done at this moment.
    is_led: AtomicBool,
    /// What apps here ask of others.
    pub(crate) calls: Calls,
    /// Told when another program is to go on.
    pub(crate) restart: Notify,
}

/// A clock that is this much ahead of what was noted is noted again: not with each connection,
/// because flash wears out.
const CLOCK: i64 = 24 * 3600 * 1000;

impl Keeper {
    pub(crate) fn new(identity: &Identity, socket: PathBuf, dir: PathBuf) -> Self {
        let engine = Docker::new(identity.name.clone(), &socket, &identity.cluster);
        let slice = Mutex::new(Slice::load(&dir));
        let (is_led, calls) = (AtomicBool::new(false), Calls::default());
        Self { engine, socket, dir, slice, is_led, calls, restart: Notify::new() }
    }

    pub(crate) fn is_led(&self) -> bool {
        self.is_led.load(Relaxed)
    }

    /// Nobody says what is to be done any more.
    pub(crate) fn left_alone(&self) {
        self.is_led.store(false, Relaxed);
    }

    /// Looks into what is to run here.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Slice) -> T) -> T {
        look(&self.slice.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what is to run here, and keeps that.
    fn change(&self, change: impl FnOnce(&mut Slice)) -> io::Result<()> {
        let mut slice = self.slice.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut slice);
        slice.save(&self.dir)
    }

    /// Notes that an instance is meant to run, as it does.
    pub(crate) fn adopt(&self, instance: &InstanceId) {
        if let Err(error) = self.set(instance, Level::Running) {
            tracing::warn!(%instance, %error, "not noted");
        }
    }

    fn set(&self, instance: &InstanceId, level: Level) -> Result<(), ProviderError> {
        self.change(|slice| slice.set(instance, level)).map_err(|error| unkept(&error))
    }

    /// Refuses to fill the disk: then not even what is there could go on.
    async fn check_room(&self, spec: &ContainerSpec) -> Result<(), ProviderError> {
        let room = Room::of(&self.dir);
        let is_there = self.engine.has_image(&spec.template.image).await;
        match room {
            Some(room) if !is_there && !room.is_enough() => Err(ProviderError::Image {
                image: spec.template.image.clone(),
                reason: format!(
                    "only {} MiB are free on the device's disk; remove what is not needed there",
                    room.free >> 20
                ),
            }),
            _ => Ok(()),
        }
    }
}

fn unkept(error: &io::Error) -> ProviderError {
    ProviderError::Refused(format!("the device cannot keep what it is to run: {error}"))
}

#[async_trait]
impl Agent for Keeper {
    fn provider(&self) -> &dyn Provider {
        self
    }

    async fn begin(&self, begin: &Begin) -> Result<About, String> {
        let known = self.epoch();
        if begin.epoch < known {
            return Err(format!(
                "this control is of the past (epoch {}, the device knows {known}): was an old \
                 state directory restored? To go on with it, enrol the device anew",
                begin.epoch
            ));
        }
        if begin.epoch > known {
            let noted = self.change(|slice| slice.epoch = begin.epoch);
            noted.map_err(|error| format!("the device cannot keep what it is told: {error}"))?;
        }
        self.note_time(begin.now);
        self.is_led.store(true, Relaxed);
        let (program, update_failed) = program::came_back(&self.dir);
        Ok(About { program, update_failed, ..about::about(&self.socket).await })
    }

    fn epoch(&self) -> u64 {
        self.look(|slice| slice.epoch)
    }

    async fn take_program(&self, program: Program) -> Result<(), String> {
        program::take(&self.dir, program).await.map_err(|error| format!("{error:#}"))
    }

    fn restart(&self) {
        self.restart.notify_one();
    }

    async fn next_caller(&self) -> (Caller, Box<dyn Duplex>) {
        self.calls.next().await
    }
}

impl Keeper {
    fn note_time(&self, now: i64) {
        let noted = Identity::load(&self.dir).and_then(|mut identity| {
            if now > identity.not_before + CLOCK {
                identity.not_before = now;
                identity.save(&self.dir)?;
            }
            Ok(())
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "the time could not be noted");
        }
    }
}

#[async_trait]
impl Provider for Keeper {
    async fn info(&self) -> Result<EngineInfo, ProviderError> {
        self.engine.info().await
    }

    async fn ping(&self) -> Result<(), ProviderError> {
        self.engine.ping().await
    }

    async fn list(&self) -> Result<Listing, ProviderError> {
        self.engine.list().await
    }

    async fn inspect(&self, instance: &InstanceId) -> Result<Option<Container>, ProviderError> {
        self.engine.inspect(instance).await
    }

    async fn create(&self, spec: &ContainerSpec, secrets: &Secrets) -> Result<(), ProviderError> {
        self.check_room(spec).await?;
        let (name, kept) = (spec.instance.container_name(), Kept::new(spec, secrets));
        self.change(|slice| drop(slice.instances.insert(name, kept)))
            .map_err(|error| unkept(&error))?;
        self.engine.create(spec, secrets).await
    }

    async fn start(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.set(instance, Level::Running)?;
        self.engine.start(instance).await
    }

    async fn pause(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.set(instance, Level::Paused)?;
        self.engine.pause(instance).await
    }

    async fn unpause(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.set(instance, Level::Running)?;
        self.engine.unpause(instance).await
    }

    async fn stop(&self, instance: &InstanceId, grace: Duration) -> Result<(), ProviderError> {
        self.set(instance, Level::Stopped)?;
        self.engine.stop(instance, grace).await
    }

    async fn remove(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        // Before it is done: what is removed half must not be made again.
        let name = instance.container_name();
        self.change(|slice| drop(slice.instances.remove(&name))).map_err(|error| unkept(&error))?;
        self.engine.remove(instance).await
    }

    async fn logs(
        &self,
        instance: &InstanceId,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<Stream<LogLine>, ProviderError> {
        self.engine.logs(instance, tail, follow).await
    }

    async fn stats(&self, instance: &InstanceId) -> Result<Stats, ProviderError> {
        self.engine.stats(instance).await
    }

    async fn exec(
        &self,
        instance: &InstanceId,
        command: &[String],
        limit: Duration,
    ) -> Result<ExecOutput, ProviderError> {
        self.engine.exec(instance, command, limit).await
    }

    async fn exact_image(&self, instance: &InstanceId) -> Result<String, ProviderError> {
        self.engine.exact_image(instance).await
    }

    async fn events(&self) -> Result<Stream<ContainerEvent>, ProviderError> {
        self.engine.events().await
    }
}
