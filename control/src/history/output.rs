//! Takes down what the instances of a deployment write, until the deployment is settled: each line
//! once, in order, also over restarts of Weir and of their processes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::{
    sync::{Mutex, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use weir_config::InstanceId;
use weir_deploy::{Container, LogStream, ProviderError};

use crate::{
    api::wire::LogRecord,
    engines::Providers,
    store::{DeploymentId, Note, Store},
};

/// Containers that are read at once; each is a connection to its engine.
const READERS: usize = 64;
/// After a read that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long the end of a log may take to be read.
const LAST_READ: Duration = Duration::from_secs(5);

/// The readers of all deployments that are not settled.
pub(super) struct Outputs {
    shared: Arc<Shared>,
    readers: BTreeMap<InstanceId, Reader>,
    tasks: JoinSet<()>,
}

struct Shared {
    providers: Providers,
    store: Store,
    lines: mpsc::Sender<Note>,
    room: Semaphore,
}

/// Somebody who reads one container.
struct Reader {
    source: Arc<Source>,
    wanted: watch::Sender<Wanted>,
}

/// What is wanted of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// What is written by the process that was started then, too.
    Follow { started_at: i128 },
    /// What is written by now, and no more.
    Finish,
    /// Nothing: the container is gone.
    Leave,
}

/// One container's output.
struct Source {
    instance: InstanceId,
    deployment: DeploymentId,
    container: String,
    /// How many lines are noted; `None` until the store has been asked. Whoever reads holds it.
    position: Mutex<Option<u64>>,
}

impl Outputs {
    pub(super) fn new(providers: Providers, store: Store, lines: mpsc::Sender<Note>) -> Self {
        let room = Semaphore::new(READERS);
        let shared = Arc::new(Shared { providers, store, lines, room });
        Self { shared, readers: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Reads what an instance writes, in the container that it has now.
    pub(super) fn follow(&mut self, instance: &InstanceId, container: Option<&Container>) {
        // Those that have ended are of no interest.
        while self.tasks.try_join_next().is_some() {}
        let known = self.readers.get(instance);
        let Some(container) = container else {
            if let Some(gone) = self.readers.remove(instance) {
                gone.wanted.send_replace(Wanted::Leave);
            }
            return;
        };
        let follow = Wanted::Follow { started_at: container.started_at };
        if let Some(reader) = known.filter(|reader| reader.source.container == container.id) {
            reader.wanted.send_if_modified(|wanted| std::mem::replace(wanted, follow) != follow);
            return;
        }
        let (app, number) = (instance.app.clone(), instance.deployment);
        let source = Arc::new(Source {
            instance: instance.clone(),
            deployment: DeploymentId { app, number },
            container: container.id.clone(),
            position: Mutex::new(None),
        });
        let (wanted, read) = watch::channel(follow);
        self.tasks.spawn(read_on(self.shared.clone(), source.clone(), read));
        let reader = Reader { source, wanted };
        if let Some(former) = self.readers.insert(instance.clone(), reader) {
            former.wanted.send_replace(Wanted::Leave);
        }
    }

    /// Notes the end of a deployment's log, after what has been written by now.
    pub(super) fn end(&mut self, deployment: DeploymentId, state: &'static str) {
        let of_it =
            |id: &InstanceId| (&id.app, id.deployment) == (&deployment.app, deployment.number);
        let mut sources = Vec::new();
        for (_, reader) in self.readers.extract_if(.., |id, _| of_it(id)) {
            reader.wanted.send_replace(Wanted::Finish);
            sources.push(reader.source);
        }
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            for source in sources {
                // Held until the reader is through.
                drop(source.position.lock().await);
            }
            // Only fails when nobody writes any more.
            let _ = shared.lines.send(Note::End { deployment, state }).await;
        });
    }
}

/// Reads one container until that is no longer wanted.
async fn read_on(shared: Arc<Shared>, source: Arc<Source>, mut wanted: watch::Receiver<Wanted>) {
    let mut position = source.position.lock().await;
    let Ok(_room) = shared.room.acquire().await else { return };
    loop {
        let now = *wanted.borrow_and_update();
        let ended = match now {
            Wanted::Follow { .. } => tokio::select! {
                ended = read(&shared, &source, &mut position, true) => ended,
                _ = wanted.changed() => continue,
            },
            Wanted::Finish => {
                let read = read(&shared, &source, &mut position, false);
                // What cannot be had in time is left out.
                let _ = timeout(LAST_READ, read).await;
                return;
            }
            Wanted::Leave => return,
        };
        let pause = async {
            match ended {
                // The process has ended; the next one writes on in the same log.
                Ok(()) => std::future::pending().await,
                Err(_) => sleep(RETRY).await,
            }
        };
        tokio::select! {
            () = pause => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Notes the lines of a container that are not noted yet.
async fn read(
    shared: &Shared,
    source: &Source,
    position: &mut Option<u64>,
    follow: bool,
) -> Result<(), ProviderError> {
    let refused = |error: &dyn std::fmt::Display| ProviderError::Refused(error.to_string());
    let noted = match *position {
        Some(noted) => noted,
        None => {
            let found = shared.store.noted_lines(&source.deployment, &source.container).await;
            *position.insert(found.map_err(|error| refused(&error))?)
        }
    };
    let host = &source.instance.host;
    let provider = shared.providers.load().get(host).cloned();
    let provider = provider.ok_or_else(|| refused(&format_args!("there is no host {host}")))?;
    let mut lines = provider.logs(&source.instance, None, follow).await?;
    let mut skipped = 0;
    while let Some(line) = lines.next().await {
        let line = line?;
        if skipped < noted {
            skipped += 1;
            continue;
        }
        let record = LogRecord {
            instance: source.instance.to_string(),
            stream: match line.stream {
                LogStream::Out => "stdout".to_owned(),
                LogStream::Err => "stderr".to_owned(),
            },
            text: kept(line.text),
        };
        let (deployment, container) = (source.deployment.clone(), source.container.clone());
        let note = Note::Line { deployment, container, record };
        shared.lines.send(note).await.map_err(|error| refused(&error))?;
        // Nothing is waited for in between: a line that was sent is counted.
        *position = position.map(|noted| noted + 1);
    }
    Ok(())
}

/// A line as it is kept: every line of a deployment's log passes here.
fn kept(line: String) -> String {
    line
}
