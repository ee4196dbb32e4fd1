//! A program that is measured: on a core of its own, with what it costs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    time::ClockId,
    unistd::Pid,
};

/// The core that a proxy has to itself. Load and backend run on the others, if there are others.
const MEASURED: &str = "0";

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a proxy. What it says goes to `<name>.log` in `dir`.
    pub(crate) fn measured(dir: &Path, name: &str, command: &Command) -> anyhow::Result<Self> {
        let mut pinned = Command::new("taskset");
        pinned.args(["--cpu-list", MEASURED]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            pinned.env(key, value.unwrap_or_default());
        }
        pinned.current_dir(dir);
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        pinned.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = pinned.spawn().context("taskset cannot be started")?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Refuses, with the last of what it said, if it has ended.
    pub(crate) fn ensure_runs(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = said.lines().collect();
            let last = &lines[lines.len().saturating_sub(10)..];
            bail!("{} ended with {status}:\n{}", self.name, last.join("\n"));
        }
        Ok(())
    }

    /// Empties its log: an access log of the whole load would fill a small disk.
    pub(crate) fn clear_log(&self) -> anyhow::Result<()> {
        Ok(File::options().write(true).open(&self.log)?.set_len(0)?)
    }

    /// Processor time of the process and those below it, in user space and in the kernel, threads
    /// that have ended included.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut time = Duration::ZERO;
        for pid in self.family()? {
            time += Duration::from(ClockId::pid_cpu_clock_id(pid)?.now()?);
        }
        Ok(time)
    }

    /// Memory in bytes, shared pages in proportion (PSS).
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let family = self.family()?;
        family.into_iter().map(|pid| memory_of(pid.as_raw().cast_unsigned())).sum()
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The process and its descendants, parents first.
    fn family(&self) -> anyhow::Result<Vec<Pid>> {
        let parents = parents()?;
        let mut family = vec![self.pid()];
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            family.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(child, _)| *child));
            next += 1;
        }
        Ok(family)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once it has been waited for, its number may be somebody else's.
        if let Ok(None) = self.child.try_wait() {
            for pid in self.family().unwrap_or_default() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// Processor time of one process.
pub(crate) fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()))?;
    Ok(Duration::from(clock.now()?))
}

/// Memory of one process in bytes, shared pages in proportion (PSS).
pub(crate) fn memory_of(pid: u32) -> anyhow::Result<u64> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let pss = smaps.lines().find_map(|line| line.strip_prefix("Pss:"));
    let pss = pss.and_then(|pss| pss.split_whitespace().next()).context("no Pss")?;
    Ok(pss.parse::<u64>()? << 10)
}

/// Every process of the machine with its parent.
fn parents() -> anyhow::Result<Vec<(Pid, Pid)>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        // Those that end meanwhile are none of ours.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name before it is in parentheses, and may hold anything.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let parent = after_name.split_whitespace().nth(1).context("a stat without a parent")?;
        parents.push((Pid::from_raw(pid), Pid::from_raw(parent.parse()?)));
    }
    Ok(parents)
}

/// Open files that 10,000 idle connections need, and what a proxy has besides.
const FILES: u64 = 16_384;

/// Moves this process, and with it the load and the backend that it starts, off the core that is
/// measured.
pub(crate) fn make_room() -> anyhow::Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let files = files.and_then(|files| files.split_whitespace().next()).context("no limits")?;
    let enough = files.parse().map_or(true, |files: u64| files >= FILES);
    ensure!(enough, "{FILES} open files are needed, {files} are allowed: ulimit -n {FILES}");
    let cores = std::thread::available_parallelism()?.get();
    if cores > 1 {
        let others = format!("1-{}", cores - 1);
        let moved = Command::new("taskset")
            .args(["--all-tasks", "--pid", "--cpu-list", &others, &std::process::id().to_string()])
            .stdout(Stdio::null())
            .status()?;
        ensure!(moved.success(), "taskset failed");
    }
    Ok(())
}
