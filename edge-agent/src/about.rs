//! What this machine is and can.

use std::{fs, path::Path, time::Duration};

use rustix::system::uname;
use tokio::time::timeout;
use weir_config::HostName;
use weir_deploy::{About, Docker, EngineInfo, Provider};

use crate::ballast::Room;

/// An engine that does not answer is no reason to say nothing.
const ENGINE: Duration = Duration::from_secs(5);
/// Where the engine keeps images and containers, unless it is told otherwise.
const CONTAINERS: &str = "/var/lib/docker";

pub(crate) fn hostname() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

/// Looks at everything anew.
pub(crate) async fn about(docker: &Path) -> About {
    let engine = Docker::new(HostName::local(), docker, "");
    let engine = timeout(ENGINE, engine.info()).await.ok().and_then(Result::ok);
    let room = Room::of(Path::new(CONTAINERS)).unwrap_or_default();
    let system = uname();
    let EngineInfo { cpus, memory, .. } = match &engine {
        Some(engine) => engine.clone(),
        None => machine(),
    };
    About {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname(),
        arch: system.machine().to_string_lossy().into_owned(),
        os: os(),
        kernel: system.release().to_string_lossy().into_owned(),
        cpus,
        memory,
        disk: room.all,
        disk_free: room.free,
        temperature: temperature(),
        gpus: gpus(),
        boot_id: read("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        engine_version: engine.map(|engine| engine.version),
        ..About::default()
    }
}

/// What can be told without an engine.
fn machine() -> EngineInfo {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let memory = read("/proc/meminfo").and_then(|text| {
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim();
        Some(total.trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
    });
    EngineInfo {
        name: String::new(),
        version: String::new(),
        api_version: String::new(),
        os: String::new(),
        arch: String::new(),
        cpus,
        memory: memory.unwrap_or_default(),
    }
}

fn os() -> String {
    let release = read("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Of the hottest part, in degrees Celsius.
fn temperature() -> Option<f64> {
    let zones = fs::read_dir("/sys/class/thermal").ok()?.filter_map(Result::ok);
    let degrees = zones.filter_map(|zone| {
        let text = fs::read_to_string(zone.path().join("temp")).ok()?;
        // In thousandths.
        Some(text.trim().parse::<f64>().ok()? / 1000.0)
    });
    degrees.max_by(f64::total_cmp)
}

/// The graphics devices that the kernel has a driver for.
fn gpus() -> Vec<String> {
    let Ok(cards) = fs::read_dir("/sys/class/drm") else { return Vec::new() };
    let names = cards.filter_map(|card| {
        let name = card.ok()?.file_name().into_string().ok()?;
        let is_card = name.strip_prefix("card")?.bytes().all(|byte| byte.is_ascii_digit());
        let driver = fs::read_link(format!("/sys/class/drm/{name}/device/driver")).ok()?;
        is_card.then(|| driver.file_name().map(|driver| driver.to_string_lossy().into_owned()))?
    });
    let mut gpus: Vec<_> = names.collect();
    gpus.sort();
    gpus
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}
