//! wrk and h2load.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context, ensure};

use super::number_before;
use crate::site::{DOMAIN, NAMES, Site, host};

/// HTTP/1.1, one name after another. `connection` is sent as the header of that name.
pub(super) fn wrk(
    site: &Site,
    url: &str,
    path: &str,
    connections: usize,
    connection: &str,
    time: Duration,
) -> anyhow::Result<u64> {
    let script = site.write("names.lua", include_str!("names.lua"))?;
    let text = output(
        Command::new("wrk")
            .args(["--threads", "1", "--connections", &connections.to_string()])
            .arg("--duration")
            .arg(format!("{}s", time.as_secs()))
            .arg("--script")
            .arg(script)
            .args([url, "--"])
            .args([&NAMES.to_string(), DOMAIN, path, connection]),
    )?;
    ensure!(number_before(&text, "failed")? == 0, "{}", lines(&text, &["errors", "failed"]));
    number_before(&text, "answered")
}

/// HTTP/2 for one name: h2load knows no more than one at a time.
pub(super) fn h2load(scheme: &str, address: SocketAddr, time: Duration) -> anyhow::Result<u64> {
    let text = output(
        Command::new("h2load")
            .args(["--clients", "16", "--max-concurrent-streams", "16", "--threads", "1"])
            .arg(format!("--duration={}", time.as_secs()))
            .arg(format!("--connect-to={address}"))
            .arg(format!("{scheme}://{}:{}/", host(0), address.port())),
    )?;
    for kind in ["failed", "errored", "timeout", "3xx", "4xx", "5xx"] {
        ensure!(number_before(&text, kind)? == 0, "{}", lines(&text, &["requests:", "codes"]));
    }
    number_before(&text, "2xx")
}

/// The lines with one of these words.
fn lines(text: &str, words: &[&str]) -> String {
    let tells = |line: &&str| words.iter().any(|word| line.contains(word));
    text.lines().filter(tells).map(str::trim).collect::<Vec<_>>().join("; ")
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| {
        format!("{program} cannot be started; `scripts/setup bench` installs it")
    })?;
    let (said, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{program} failed: {said}{error}");
    Ok(said.into_owned())
}
