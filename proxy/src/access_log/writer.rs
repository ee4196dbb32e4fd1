//! From the threads that carry requests to the thread that writes: no request waits for a terminal
//! or a disk, and none wakes a thread but the first after a pause.

use std::{
    cell::Cell,
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc,
    },
    thread::{self, Thread},
    time::Duration,
};

use weir_config::LogFormat;

/// So many threads write without meeting each other.
const BUFFERS: usize = 8;

/// Lines are written in batches, so often at most. Until then a line is in memory only.
const BATCH: Duration = Duration::from_millis(20);

/// A buffer holds no more; what comes while whoever reads the log lags behind is dropped and counted.
const BUFFER_BYTES: usize = 1 << 20;

/// How long the end of the program waits for the last lines to be taken.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Where lines of the access log go. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog(Arc<Shared>);

struct Shared {
    format: LogFormat,
    buffers: [Mutex<Vec<u8>>; BUFFERS],
    dropped: AtomicU64,
    ended: AtomicBool,
    writer: Thread,
}

/// Writes what is left when it is dropped.
#[derive(Debug)]
pub struct AccessLogGuard {
    log: AccessLog,
    done: mpsc::Receiver<()>,
}

impl AccessLog {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        format: LogFormat,
        output: impl io::Write + Send + 'static,
    ) -> io::Result<(Self, AccessLogGuard)> {
        let (hand_over, taken) = mpsc::channel::<Self>();
        let (finished, done) = mpsc::channel();
        let thread =
            thread::Builder::new().name("weir-access-log".to_owned()).spawn(move || {
                if let Ok(log) = taken.recv() {
                    log.write_batches(output);
                }
                // Whoever waited may have given up.
                let _ = finished.send(());
            })?;
        let log = Self(Arc::new(Shared {
            format,
            buffers: Default::default(),
            dropped: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            writer: thread.thread().clone(),
        }));
        // The thread waits for it.
        let _ = hand_over.send(log.clone());
        Ok((log.clone(), AccessLogGuard { log, done }))
    }

    /// Lines that nobody took in time.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// Lets `line` append one line to a buffer.
    pub(super) fn append(&self, line: impl FnOnce(&mut Vec<u8>, LogFormat)) {
        let shared = &*self.0;
        let mine = own_buffer();
        let free = (0..BUFFERS).find_map(|n| shared.buffers[(mine + n) % BUFFERS].try_lock().ok());
        let Some(mut buffer) = free.filter(|buffer| buffer.len() < BUFFER_BYTES) else {
            shared.dropped.fetch_add(1, Relaxed);
            return;
        };
        let first = buffer.is_empty();
        line(&mut buffer, shared.format);
        drop(buffer);
        if first {
            shared.writer.unpark();
        }
    }

    fn write_batches(self, mut output: impl io::Write) {
        let mut batch = Vec::new();
        loop {
            let ended = self.0.ended.load(SeqCst);
            let mut wrote = false;
            for buffer in &self.0.buffers {
                let mut filled = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut batch, &mut *filled);
                drop(filled);
                if batch.is_empty() {
                    continue;
                }
                wrote = true;
                if output.write_all(&batch).and_then(|()| output.flush()).is_err() {
                    let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                    self.0.dropped.fetch_add(lines as u64, Relaxed);
                }
                batch.clear();
            }
            if ended {
                return;
            }
            // Parks through if something came meanwhile. Not after a write: an output may wait in a
            // way that uses up the wake-up of a line that came during it.
            if !wrote {
                thread::park();
            }
            // Lets more come.
            if !self.0.ended.load(SeqCst) {
                thread::sleep(BATCH);
            }
        }
    }
}

impl Drop for AccessLogGuard {
    fn drop(&mut self) {
        self.log.0.ended.store(true, SeqCst);
        self.log.0.writer.unpark();
        // An output that takes nothing does not hold up the end for ever.
        let _ = self.done.recv_timeout(LAST_WRITE);
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

/// The buffer that the current thread tries first.
fn own_buffer() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| match own.get() {
        Some(mine) => mine,
        None => {
            let mine = NEXT.fetch_add(1, Relaxed);
            own.set(Some(mine));
            mine
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        io::{Error, ErrorKind},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn append(log: &AccessLog, text: &str) {
        log.append(|buffer, _| buffer.extend_from_slice(text.as_bytes()));
    }

    #[test]
    fn every_line_of_every_thread_is_written_once_and_whole() {
        let output = Output::default();
        let (log, guard) = AccessLog::start(LogFormat::Json, output.clone()).unwrap();
        thread::scope(|scope| {
            for thread in 0..12 {
                let log = &log;
                scope.spawn(move || {
                    for n in 0..1000 {
                        append(log, &format!("{thread} {n}\n"));
                    }
                });
            }
        });
        drop(guard);
        let written = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        let lines: HashSet<_> = written.lines().collect();
        assert_eq!(
            (written.lines().count(), lines.len() as u64),
            (lines.len(), 12_000 - log.dropped())
        );
        // Twelve threads may find eight buffers taken now and then.
        assert!(log.dropped() < 100, "{log:?}");
    }

    /// Blocks until it is let go, and then fails.
    struct Stuck(mpsc::Receiver<()>);

    impl io::Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Err(Error::from(ErrorKind::BrokenPipe))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_takes_nothing_costs_bounded_memory_and_stops_nobody() {
        let (release, stuck) = mpsc::channel();
        let (log, guard) = AccessLog::start(LogFormat::Json, Stuck(stuck)).unwrap();
        let line = "x".repeat(999) + "\n";
        (0..100_000).for_each(|_| append(&log, &line));
        let held: usize = log.0.buffers.iter().map(|buffer| buffer.lock().unwrap().len()).sum();
        // A line goes to another thread's buffer while the writer is at its own.
        assert!(held <= BUFFERS * (BUFFER_BYTES + line.len()), "{held} bytes");
        assert!(log.dropped() > 90_000);
        drop(release);
        drop(guard);
        assert_eq!(log.dropped(), 100_000, "what was not written is counted");
    }
}
